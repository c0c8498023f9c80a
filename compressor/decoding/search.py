"""Runs greedy and beam search in PyTorch, with the scores and stopping rules of Hugging Face ``generate``.

Shapes: batch = sentences, beams, rows = batch * beams, vocab. Outputs are lists of token ids that end with EOS when
the search finished, and do not contain the start token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
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
from compressor.decoding.constraints import GreedyOptions, PerSentence, per_sentence, search_options, select_options
from compressor.decoding.greedy import (
    Choose,
    Greedy,
    GreedySearch,
)
from compressor.generation_config import GenerationConfig, until_eos
from compressor.models.base import Seq2SeqModel

Chooser = Callable[[Tensor, int, Tensor], Choose]
"""(open rows of the batch, ascending; step; the rows' last tokens, both int64 [n]) -> function that chooses columns."""

WORTH_SHRINKING = 0.75
"""Finished sentences are removed when at most this share of the batch is unfinished, or at a sentence's limit."""


@torch.no_grad()
def greedy(
    model: Seq2SeqModel,
    generation: GenerationConfig,
    source: Tensor,
    source_mask: Tensor,
    max_new_tokens: PerSentence | None = None,
    chooser: Chooser | None = None,
    min_new_tokens: PerSentence | None = None,
    *,
    all_columns: bool = False,
) -> list[list[int]]:
    """Returns the greedy output of each source. Finished rows are removed from the batch during the search.

    Args:
        model: The model.
        generation: Tokens and default limits.
        source: int64 [batch, source_len].
        source_mask: bool [batch, source_len], True on tokens.
        max_new_tokens: Maximum output length, one number or one for each sentence; None: the configuration's.
        chooser: Returns the function that chooses a column of the constrained logits; None: ``best_column``.
        min_new_tokens: EOS is forbidden before this many tokens; as ``max_new_tokens``.
        all_columns: Whether the output layer computes suppressed tokens, too, for a chooser that knows columns by their
            token.
    """
    device, vocab_size = source.device, model.config.vocab_size
    if generation.suppressed_ids and not all_columns:
        tokens = torch.tensor(generation.allowed_ids(vocab_size), device=device)
        unsuppressed = generation.model_copy(update={"suppressed_ids": ()})
        search = GreedySearch(unsuppressed, vocab_size, tokens)
        written: AbstractContextManager[None] = model.writing_only(tokens)
    else:
        search, written = GreedySearch(generation, vocab_size), nullcontext()
    asked = search_options(generation, source.shape[0], max_new_tokens, min_new_tokens=min_new_tokens)
    options = GreedyOptions(*_moved(asked, device))
    with written:
        outputs = _greedy(model, search.to(device), source, source_mask, options, chooser)
    return [until_eos(row, generation.eos_id, generation.pad_id) for row in outputs.tolist()]


def _greedy(
    model: Seq2SeqModel,
    search: GreedySearch,
    source: Tensor,
    source_mask: Tensor,
    options: GreedyOptions,
    chooser: Chooser | None,
) -> Tensor:
    """Returns the output tokens, int64 [batch, longest limit], padded after EOS or at the sentence's limit."""
    generation, device = search.generation, source.device
    limit = int(options.max_new_tokens.max())
    state = model.initial_state(model.encode(source, source_mask))
    rows = torch.arange(source.shape[0], device=device)
    outputs = source.new_full((source.shape[0], limit), generation.pad_id)
    search_state = search.start(rows)
    for step in range(limit):
        if chooser is not None:
            search.choose = chooser(rows, step, search_state.sequences[:, -1])
        _, state, search_state = search.advance(model, state, search_state, torch.tensor(step, device=device), options)
        outputs[rows, step] = search_state.sequences[:, -1]
        below_limit = step + 1 < options.max_new_tokens
        search_state = search_state._replace(open=search_state.open & below_limit)
        alive = int(search_state.open.sum())
        if not alive:
            break
        if alive <= WORTH_SHRINKING * len(rows) or not below_limit.all():
            open_rows = search_state.open.nonzero()[:, 0]
            search_state = Greedy(*(tensor[open_rows] for tensor in search_state))
            rows, state = rows[open_rows], model.select(state, open_rows)
            options = select_options(options, open_rows)
    return outputs


@dataclass
class Hypothesis:
    """A finished beam. ``score`` is its log-probability / length ** length_penalty; the length includes EOS."""

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
    """Returns the ``num_return`` best hypotheses of each source, best first.

    Limits and the length penalty are one number, or one for each sentence; None takes the configuration's.
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
        open_rows = beams.open.nonzero()[:, 0]
        beams = Beams(*(tensor[open_rows] for tensor in beams))
        rows, state = rows[open_rows], model.select(state, open_rows)
        options = select_options(options, open_rows)
    return outputs


def _moved(tensors: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Returns tensors on a device."""
    return (tensor.to(device) for tensor in tensors)


def pad_sources(sources: Sequence[TokenIds], pad_id: int, device: Any = None) -> tuple[Tensor, Tensor]:
    """Token ids padded on the right, int64 [batch, source_len], and their mask, bool."""
    source, mask = pad(sources, pad_id)
    return torch.from_numpy(source).to(device), torch.from_numpy(mask).to(device)
