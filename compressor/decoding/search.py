"""Greedy and beam search in PyTorch, with scores and stopping as Hugging Face `generate` defines them.

Shapes: batch = sentences, beams, rows = batch * beams, vocab. Outputs are lists of token ids that end with EOS when
the search finished; the start token is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from compressor.batching import TokenIds, pad
from compressor.decoding.beam import (
    STOPPING,
    BeamOptions,
    Beams,
    BeamSearch,
)
from compressor.decoding.constraints import PerSentence, SearchOptions, per_sentence, search_options, select_options
from compressor.decoding.greedy import (
    Choose,
    Greedy,
    GreedySearch,
)
from compressor.generation_config import GenerationConfig, until_eos
from compressor.models.base import Seq2SeqModel

Chooser = Callable[[Tensor, int], Choose]
"""Rows of the batch that are still open (int64 [n]) and the step -> how their columns are chosen there."""

WORTH_SHRINKING = 0.75
"""Finished sentences leave the batch when less than this share of it goes on, or one has reached its limit."""


@torch.no_grad()
def greedy(
    model: Seq2SeqModel,
    generation: GenerationConfig,
    source: Tensor,
    source_mask: Tensor,
    max_new_tokens: PerSentence | None = None,
    chooser: Chooser | None = None,
    min_new_tokens: PerSentence | None = None,
) -> list[list[int]]:
    """One output a source; rows that are finished leave the batch.

    Args:
        source, source_mask: int64 and bool [batch, source_len].
        max_new_tokens: longest output, in place of the configuration's: one for all sentences, or one for each.
        chooser: how a column of the constrained logits is chosen at each step; None: the best one.
        min_new_tokens: EOS is forbidden before so many tokens, in place of the configuration's; as above.
    """
    device = source.device
    search = GreedySearch(generation, model.config.vocab_size).to(device)
    asked = search_options(generation, source.shape[0], max_new_tokens, min_new_tokens=min_new_tokens)
    options = SearchOptions(*_moved(asked, device))
    limit = int(options.max_new_tokens.max())
    state = model.initial_state(model.encode(source, source_mask))
    rows = torch.arange(source.shape[0], device=device)
    outputs = source.new_full((source.shape[0], limit), generation.pad_id)
    found = search.start(rows)
    for step in range(limit):
        if chooser is not None:
            search.choose = chooser(rows, step)
        _, state, found = search.advance(model, state, found, torch.tensor(step, device=device), options)
        outputs[rows, step] = found.sequences[:, -1]
        below_limit = step + 1 < options.max_new_tokens
        found = found._replace(open=found.open & below_limit)
        alive = int(found.open.sum())
        if not alive:
            break
        if alive <= WORTH_SHRINKING * len(rows) or not below_limit.all():
            keep = found.open.nonzero()[:, 0]
            rows, found, state = rows[keep], Greedy(*(tensor[keep] for tensor in found)), model.select(state, keep)
            options = select_options(options, keep)
    return [until_eos(row, generation.eos_id, generation.pad_id) for row in outputs.tolist()]


@dataclass
class Hypothesis:
    """A finished beam; ``score`` is its log-probability divided by length ** length_penalty (EOS counted)."""

    score: float
    tokens: list[int]


@torch.no_grad()
def beam_search(
    model: Seq2SeqModel,
    generation: GenerationConfig,
    source: Tensor,
    source_mask: Tensor,
    *,
    num_beams: int | None = None,
    max_new_tokens: PerSentence | None = None,
    min_new_tokens: PerSentence | None = None,
    length_penalty: PerSentence | None = None,
    num_return: int = 1,
) -> list[list[Hypothesis]]:
    """The ``num_return`` best outputs of every source, best first.

    Limits and the length penalty are one for all sentences, or one for each; None takes the configuration's.
    """
    count = num_beams or generation.num_beams
    device, vocab_size = source.device, model.config.vocab_size
    search = BeamSearch(generation, vocab_size).to(device)
    common = search_options(generation, source.shape[0], max_new_tokens, min_new_tokens=min_new_tokens)
    penalty = generation.length_penalty if length_penalty is None else length_penalty
    penalties = per_sentence(penalty, source.shape[0], torch.float32)
    options = BeamOptions(*_moved([*common, penalties, torch.tensor(STOPPING[generation.early_stopping])], device))
    beams = search.start(source[:, 0], torch.arange(count, device=device))
    state = model.initial_state(model.encode(source, source_mask), count)
    rows, outputs = torch.arange(source.shape[0], device=device), [list[Hypothesis]() for _ in source]
    for step in range(int(options.max_new_tokens.max())):
        _, state, beams = search.advance(model, state, beams, torch.tensor(step, device=device), options)
        below_limit = step + 1 < options.max_new_tokens
        beams = beams._replace(open=beams.open & below_limit)
        alive = int(beams.open.sum())
        if alive > WORTH_SHRINKING * len(rows) and below_limit.all():
            continue
        for row, tokens, scores in zip(
            rows.tolist(), beams.finished.tolist(), beams.finished_scores.tolist(), strict=True
        ):
            outputs[row] = [
                Hypothesis(score, until_eos(output[1:], generation.eos_id, generation.pad_id))
                for score, output in zip(scores[:num_return], tokens, strict=False)
            ]
        if not alive:
            break
        keep = beams.open.nonzero()[:, 0]
        rows, beams, state = rows[keep], Beams(*(tensor[keep] for tensor in beams)), model.select(state, keep)
        options = select_options(options, keep)
    return outputs


def _moved(tensors: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
    return (tensor.to(device) for tensor in tensors)


def pad_sources(sources: Sequence[TokenIds], pad_id: int, device: Any = None) -> tuple[Tensor, Tensor]:
    """Token ids padded on the right, int64 [batch, source_len], and their mask, bool."""
    source, mask = pad(sources, pad_id)
    return torch.from_numpy(source).to(device), torch.from_numpy(mask).to(device)
