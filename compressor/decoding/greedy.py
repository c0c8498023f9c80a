"""One step of greedy search as a module: the same one runs in PyTorch and in the exported graph.

Shapes: batch = sentences, columns = those of the output layer, length = tokens so far with the start token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from compressor.decoding.constraints import Constraints, SearchOptions, split_options
from compressor.decoding.shortlist import Shortlisted
from compressor.generation_config import GenerationConfig
from compressor.models.base import Seq2SeqModel

Choose = Callable[[Tensor], Tensor]
"""Logits [batch, columns] -> columns [batch]."""


class Greedy(NamedTuple):
    """Where a search stands."""

    sequences: Tensor
    """int64 [batch, length]: padding behind the end of sentence."""
    open: Tensor
    """bool [batch]: whether a sentence goes on."""


def best_column(logits: Tensor) -> Tensor:
    """The greedy choice."""
    return logits.argmax(dim=-1)


class GreedySearch(nn.Module):
    """Chooses the next token as Hugging Face ``generate`` does with one beam and no sampling."""

    Options, State = SearchOptions, Greedy
    RESULTS: ClassVar = {"output_ids": "sequences"}
    """Outputs of the whole search, and the part of the last state that they are."""

    def __init__(
        self,
        generation: GenerationConfig,
        vocab_size: int,
        tokens: Tensor | None = None,
        choose: Choose = best_column,
    ) -> None:
        """``tokens``, int64 [columns]: the token of each column; ``choose``: another way to pick one (sampling)."""
        super().__init__()
        self.generation, self.choose = generation, choose
        self.constraints = Constraints(generation, vocab_size, tokens)

    def start(self, batch: Tensor) -> Greedy:
        """Outputs that have nothing but the start token; ``batch`` [batch] is looked at for its size alone."""
        sequences = torch.full_like(batch, self.generation.start_id, dtype=torch.int64)[:, None]
        return Greedy(sequences, torch.ones_like(batch, dtype=torch.bool))

    def forward(
        self, logits: Tensor, state: Greedy, step: Tensor, options: SearchOptions, kept_columns: Tensor | None = None
    ) -> Greedy:
        """One token further.

        Args:
            logits: [batch, columns].
            state: where the search stands.
            step: int64 scalar, tokens generated so far.
            options: of this call.
            kept_columns: int64 [n], the columns that logits have, if not all; suppressed ones are not among them.
        """
        scores = self.constraints.always(logits) if kept_columns is None else logits
        operands = (scores, state.sequences, step, *options, *(() if kept_columns is None else (kept_columns,)))
        active = self.constraints.active(step, options)
        if torch.compiler.is_exporting():
            (chosen,) = torch.cond(active, self._constrained, self._free, operands)
        else:
            (chosen,) = (self._constrained if active else self._free)(*operands)
        token = torch.where(state.open, chosen, self.generation.pad_id)
        sequences = torch.cat([state.sequences, token[:, None]], dim=1)
        return Greedy(sequences, state.open & (token != self.generation.eos_id))

    def advance(
        self,
        model: Seq2SeqModel,
        state: Any,
        found: Greedy,
        step: Tensor,
        options: SearchOptions,
        shortlisted: Shortlisted | None = None,
    ) -> tuple[Tensor, Any, Greedy]:
        """A step of the model, then one of the search: the logits and both states."""
        kept_columns, penalty = (None, None) if shortlisted is None else shortlisted
        logits, state = model.step(found.sequences[:, -1], state, kept_columns)
        logits = logits.float()  # of a model in half precision; a search is in single
        if penalty is not None:
            logits = logits + penalty
        return logits, state, self(logits, found, step, options, kept_columns)

    # Both branches of the condition return the tokens, [batch]; ``options`` end with ``kept_columns`` if given.
    def _free(self, logits: Tensor, sequences: Tensor, step: Tensor, *options: Tensor) -> tuple[Tensor]:
        return (self.constraints.token(self.choose(logits), split_options(options)[1]),)

    def _constrained(self, logits: Tensor, sequences: Tensor, step: Tensor, *options: Tensor) -> tuple[Tensor]:
        call, kept_columns = split_options(options)
        column = self.choose(self.constraints.forbid(logits, sequences, step, call, kept_columns))
        flag, given = self.constraints.forced(step, call)
        return (torch.where(flag, given, self.constraints.token(column, kept_columns)),)
