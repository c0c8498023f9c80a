"""Implements one step of beam search as a module that runs in PyTorch and in the exported graph.

Scores and stopping are those of Hugging Face ``generate``. A step returns each beam's parent, with which the model
reorders its state.

Shapes: batch = sentences, beams, columns = those of the output layer, length = tokens so far with the start token,
candidates = 2 * beams + spare.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.decoding.constraints import Constraints, GreedyOptions, split_options
from compressor.decoding.shortlist import Shortlisted
from compressor.decoding.topk import can_group, group_starts, top_grouped
from compressor.generation_config import GenerationConfig
from compressor.models.base import Seq2SeqModel
from compressor.models.layers import gather_beams

NEVER = -1e9
"""Score of a beam that does not count, as in Hugging Face. It is finite, so such beams can still be compared."""

MAX_BEAMS = 64
"""Maximum number of beams."""

FEW = 8
"""Up to this many suppressed tokens are removed from the candidates; more are masked in all columns (cheaper)."""

STOP_HEURISTIC, STOP_WHEN_FULL, STOP_NEVER = 0, 1, 2
STOPPING = {False: STOP_HEURISTIC, True: STOP_WHEN_FULL, "never": STOP_NEVER}
"""Code of each value of Hugging Face's ``early_stopping``."""


class BeamOptions(NamedTuple):
    """Options of one call: those of ``GreedyOptions``, and two of beam search."""

    max_new_tokens: Tensor
    min_new_tokens: Tensor
    no_repeat_ngram_size: Tensor
    prefix_ids: Tensor
    length_penalty: Tensor
    """float [batch]: scores are divided by length to this power."""
    early_stopping: Tensor
    """int64 scalar: 0 false, 1 true, 2 never."""


class Beams(NamedTuple):
    """State of a beam search."""

    sequences: Tensor
    """int64 [batch, beams, length]"""
    log_probs: Tensor
    """[batch, beams]"""
    finished: Tensor
    """int64 [batch, beams, length]: the best finished hypotheses."""
    finished_scores: Tensor
    """[batch, beams]: scores with the length penalty; ``NEVER`` where no hypothesis has finished."""
    open: Tensor
    """bool [batch]: whether a sentence's outputs can still change."""


class BeamSearch(nn.Module):
    """Selects the beams to extend, and collects the finished hypotheses."""

    Options, State = BeamOptions, Beams
    RESULTS: ClassVar = {"output_ids": "finished", "scores": "finished_scores"}
    """Maps each output of the whole search to the field of the last state that holds it."""

    def __init__(self, generation: GenerationConfig, vocab_size: int, tokens: Tensor | None = None) -> None:
        """Initializes the search; ``tokens``, int64 [columns]: each column's token (None: the whole vocabulary)."""
        super().__init__()
        self.generation = generation
        self.constraints = Constraints(generation, vocab_size, tokens)
        count = len(set(generation.suppressed_ids))
        self.spare = count if count <= FEW and not generation.renormalize_logits else 0
        """Number of additional candidates, because suppressed tokens may be among the best."""

    def start(self, batch: Tensor, slots: Tensor) -> Beams:
        """Returns beams of the start token alone; only the sizes of ``batch`` [batch] and ``slots`` [beams] matter."""
        sequences = torch.full((batch.shape[0], slots.shape[0], 1), self.generation.start_id, device=batch.device)
        first = torch.arange(slots.shape[0], device=batch.device) == 0
        scores = torch.where(first, 0.0, NEVER).expand(batch.shape[0], -1)  # equal beams: only the first one counts
        finished_scores = torch.full_like(scores, NEVER)
        return Beams(sequences, scores.clone(), sequences.clone(), finished_scores, scores[:, 0] == 0)

    def forward(
        self,
        logits: Tensor,
        beams: Beams,
        step: Tensor,
        options: BeamOptions,
        kept_columns: Tensor | None = None,
    ) -> tuple[Tensor, Beams]:
        """Extends every beam by one token.

        Args:
            logits: [batch, beams, columns].
            beams: State of the search.
            step: int64 scalar, number of generated tokens.
            options: Options of the call.
            kept_columns: int64 [n], the columns of ``logits``, without suppressed tokens; None: all columns.

        Returns:
            Each beam's parent (int64 [batch, beams], the index of the beam that it extends), and the next state.
        """
        values, tokens = self._continuations(logits, beams, step, options, kept_columns)
        _, num_beams, width = values.shape
        total = (beams.log_probs[:, :, None] + values).flatten(1)
        best, index = total.topk(2 * num_beams, dim=1)
        of_column = torch.arange(num_beams * width, device=index.device) // width
        parent, token = of_column[index], tokens.flatten(1).gather(1, index)
        ends = (token == self.generation.eos_id) | (step == options.max_new_tokens - 1)[:, None]

        running, going = (best + torch.where(ends, NEVER, 0.0)).topk(num_beams, dim=1)
        parent_going = parent.gather(1, going)
        sequences = _longer(gather_beams(beams.sequences, parent_going), token.gather(1, going))

        length = step + 1 - options.prefix_ids.shape[1]
        rank = torch.arange(2 * num_beams, device=best.device)
        counts = ends & (rank < num_beams) & beams.open[:, None]
        penalised = best / length.clamp(min=1).float() ** options.length_penalty[:, None] + torch.where(
            counts, 0.0, NEVER
        )
        merged = torch.cat([beams.finished_scores, penalised], dim=1)
        finished_scores, best_ended = merged.topk(num_beams, dim=1)
        ended = _longer(gather_beams(beams.sequences, parent), token)
        finished = gather_beams(
            torch.cat([F.pad(beams.finished, (0, 1), value=self.generation.pad_id), ended], dim=1), best_ended
        )

        is_open = beams.open & self._can_change(running[:, 0], finished_scores, length, options)
        return parent_going, Beams(sequences, running, finished, finished_scores, is_open)

    def advance(
        self,
        model: Seq2SeqModel,
        state: Any,
        beams: Beams,
        step: Tensor,
        options: BeamOptions,
        shortlisted: Shortlisted | None = None,
    ) -> tuple[Tensor, Any, Beams]:
        """Runs a step of the model and a step of the search; returns the logits, the model's and the search's state."""
        kept_columns, penalty = (None, None) if shortlisted is None else shortlisted
        logits, state = model.step(beams.sequences[:, :, -1], state, kept_columns)
        logits = logits.float()  # the model may run in half precision; the search runs in fp32
        if penalty is not None:
            logits = logits + penalty[:, None]
        parents, beams = self(logits, beams, step, options, kept_columns)
        return logits, model.reorder(state, parents), beams

    def _continuations(
        self, logits: Tensor, beams: Beams, step: Tensor, options: BeamOptions, kept_columns: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Returns log-probabilities and tokens of every beam's best continuations, both [batch, beams, candidates]."""
        if self.generation.renormalize_logits and kept_columns is None:
            logits = self.constraints.always(logits)
        log_probs = logits.log_softmax(dim=-1)
        if not self.spare and kept_columns is None:
            log_probs = self.constraints.always(log_probs)
        call = GreedyOptions(*options[:4])
        starts = group_starts(beams.log_probs.flatten(), log_probs.shape[2])
        operands = (log_probs, starts, beams.sequences, step, *call, *(() if kept_columns is None else (kept_columns,)))
        active = self.constraints.active(step, call)
        if torch.compiler.is_exporting():
            values, tokens = torch.cond(active, self._constrained, self._free, operands)
        else:
            values, tokens = (self._constrained if active else self._free)(*operands)
        return values, tokens

    # Both branches of the condition return values and tokens, [batch, beams, candidates]; ``options`` are
    # the fields of GreedyOptions, then ``kept_columns`` if that is given.
    def _free(
        self, log_probs: Tensor, starts: Tensor, sequences: Tensor, step: Tensor, *options: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns each beam's best continuations where no token is forbidden or forced, but those suppressed always."""
        _, kept_columns = split_options(options)
        values, columns = self._best(log_probs, starts, kept_columns)
        if self.spare and kept_columns is None:
            values = values + self.constraints.suppressed[columns]
        return values, self.constraints.token(columns, kept_columns)

    def _constrained(
        self, log_probs: Tensor, starts: Tensor, sequences: Tensor, step: Tensor, *options: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns each beam's best continuations under all constraints."""
        call, kept_columns = split_options(options)
        if self.spare and kept_columns is None:
            log_probs = self.constraints.always(log_probs)
        least = call.min_new_tokens[:, None].expand(-1, sequences.shape[1]).flatten()
        rows = call._replace(min_new_tokens=least)
        allowed = self.constraints.forbid(log_probs.flatten(0, 1), sequences.flatten(0, 1), step, rows, kept_columns)
        if self.generation.renormalize_logits:
            allowed = allowed.log_softmax(dim=-1)
        values, columns = self._best(allowed.view(log_probs.shape), starts, kept_columns)
        flag, token = self.constraints.forced(step, call)
        first = torch.arange(values.shape[2], device=values.device) == 0
        given = torch.where(first, 0.0, -torch.inf)  # log-probability of a forced token is 0
        flag = flag[:, None, None]
        tokens = torch.where(flag, token[:, None, None], self.constraints.token(columns, kept_columns))
        return torch.where(flag, given.expand_as(values), values), tokens

    def _best(self, scores: Tensor, starts: Tensor, kept_columns: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns values and columns of each beam's candidates, [batch, beams, candidates]."""
        batch, num_beams, columns = scores.shape
        count = 2 * num_beams + (self.spare if kept_columns is None else 0)
        if kept_columns is not None or not can_group(columns, 2 * MAX_BEAMS + FEW):
            return scores.topk(count, dim=2)
        values, chosen = top_grouped(scores.view(batch * num_beams, columns), count, starts)
        return values.view(batch, num_beams, count), chosen.view(batch, num_beams, count)

    @staticmethod
    def _can_change(running: Tensor, finished: Tensor, length: Tensor, options: BeamOptions) -> Tensor:
        """Returns bool [batch]: whether the best running beam [batch] can displace a finished one [batch, beams]."""
        penalty, stopping = options.length_penalty, options.early_stopping
        longest = options.max_new_tokens - options.prefix_ids.shape[1]
        best_length = torch.where((stopping == STOP_NEVER) & (penalty > 0), longest, length).clamp(min=1)
        worst = finished[:, -1]
        full = worst > NEVER / 2
        possible = running / best_length.float() ** penalty > torch.where(full, worst, NEVER)
        return possible & ~(full & (stopping == STOP_WHEN_FULL))


def _longer(sequences: Tensor, tokens: Tensor) -> Tensor:
    """Returns sequences [batch, beams, length + 1]: each with its token [batch, beams] appended."""
    return torch.cat([sequences, tokens[:, :, None]], dim=2)
