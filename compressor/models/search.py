"""Greedy and beam search in PyTorch, with scores and stopping as Hugging Face `generate` defines them.

Shapes: batch = sentences, beams, rows = batch * beams, vocab. Outputs are lists of token ids that end with EOS when
the search finished; the start token is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from compressor.generation import GenerationConfig
from compressor.models.base import Seq2SeqModel

Choose = Callable[[Tensor], Tensor]
"""Logits [rows, vocab] -> token ids [rows]."""


def suppress(logits: Tensor, generation: GenerationConfig) -> Tensor:
    """Logits with the suppressed tokens at minus infinity, in place."""
    if generation.suppressed_ids:
        logits[..., list(generation.suppressed_ids)] = -torch.inf
    return logits


def constrain(logits: Tensor, generation: GenerationConfig, step: int, limit: int, so_far: Tensor | None) -> Tensor:
    """Applies every rule of the generation configuration to the logits of one step, in place.

    Args:
        logits: [rows, vocab] of token number ``step`` (from 0).
        generation: the rules.
        step: tokens generated so far.
        limit: the most tokens that may be generated.
        so_far: [rows, 1 + step] start token and output so far; needed for n-gram blocking alone.
    """
    suppress(logits, generation)
    begin = 0 if generation.forced_bos_id is None else 1  # a forced first token is not the beginning
    if step == begin and generation.begin_suppressed_ids:
        logits[:, list(generation.begin_suppressed_ids)] = -torch.inf
    if step < generation.min_new_tokens:
        logits[:, generation.eos_id] = -torch.inf
    if generation.no_repeat_ngram_size and so_far is not None:
        _block_ngrams(logits, so_far, generation.no_repeat_ngram_size)
    forced = None
    if step == 0:
        forced = generation.forced_bos_id
    if step == limit - 1 and generation.forced_eos_id is not None:
        forced = generation.forced_eos_id
    if forced is not None:
        logits[:] = -torch.inf
        logits[:, forced] = 0.0
    return logits


def _block_ngrams(logits: Tensor, so_far: Tensor, size: int) -> None:
    for row, tokens in enumerate(so_far.tolist()):
        last = tokens[len(tokens) - size + 1 :] if size > 1 else []
        for start in range(len(tokens) - size + 1):
            if tokens[start : start + size - 1] == last:
                logits[row, tokens[start + size - 1]] = -torch.inf


def best_token(logits: Tensor) -> Tensor:
    """The greedy choice."""
    return logits.argmax(dim=-1)


@torch.no_grad()
def greedy(
    model: Seq2SeqModel,
    generation: GenerationConfig,
    source: Tensor,
    source_mask: Tensor,
    max_new_tokens: int | None = None,
    choose: Choose = best_token,
) -> list[list[int]]:
    """One output a source; rows that are finished leave the batch.

    Args:
        source, source_mask: int64 and bool [batch, source_len].
        max_new_tokens: overrides the configuration's limit.
        choose: how a token is picked from constrained logits.
    """
    limit = max_new_tokens or generation.max_new_tokens
    state = model.initial_state(model.encode(source, source_mask))
    rows = torch.arange(source.shape[0], device=source.device)
    tokens = source.new_full((source.shape[0], 1 + limit), generation.pad_id)
    tokens[:, 0] = generation.start_id
    finished = torch.zeros_like(rows, dtype=torch.bool)
    for step in range(limit):
        logits, state = model.step(tokens[rows, step], state)
        so_far = tokens[rows, : step + 1] if generation.no_repeat_ngram_size else None
        chosen = choose(constrain(logits, generation, step, limit, so_far))
        chosen = chosen.masked_fill(finished, generation.pad_id)
        tokens[rows, step + 1] = chosen
        finished = finished | (chosen == generation.eos_id)
        alive = int((~finished).sum())
        if not alive:
            break
        if alive <= 0.75 * len(rows):
            keep = (~finished).nonzero()[:, 0]
            rows, finished, state = rows[keep], finished[keep], model.select(state, keep)
    return [until_eos(row, generation.eos_id, generation.pad_id) for row in tokens[:, 1:].tolist()]


def until_eos(tokens: list[int], eos_id: int, pad_id: int) -> list[int]:
    """Tokens up to and with the first EOS, else up to the padding at the end."""
    if eos_id in tokens:
        return tokens[: tokens.index(eos_id) + 1]
    while tokens and tokens[-1] == pad_id:
        tokens = tokens[:-1]
    return tokens


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
    max_new_tokens: int | None = None,
    num_return: int = 1,
) -> list[list[Hypothesis]]:
    """The ``num_return`` best outputs of every source, best first (``early_stopping`` false).

    Cross-attention keys and values are repeated per beam: this search is for native teachers, not for serving.
    """
    beams = num_beams or generation.num_beams
    limit = max_new_tokens or generation.max_new_tokens
    batch, device = source.shape[0], source.device
    state = model.initial_state(model.encode(source, source_mask))
    state = model.select(state, torch.arange(batch, device=device).repeat_interleave(beams))
    tokens = source.new_full((batch, beams, 1), generation.start_id)
    scores = torch.zeros(batch, beams, device=device)
    scores[:, 1:] = -1e9  # all beams start alike: only the first one counts
    done: list[list[Hypothesis]] = [[] for _ in range(batch)]
    is_open = torch.ones(batch, dtype=torch.bool, device=device)
    for step in range(limit):
        logits, state = model.step(tokens[:, :, -1].flatten(), state)
        flat = tokens.view(batch * beams, -1)
        log_probs = constrain(logits.log_softmax(dim=-1), generation, step, limit, flat)
        total = (scores.view(-1, 1) + log_probs).view(batch, -1)
        best, index = total.topk(2 * beams, dim=1)
        parent, token = index // logits.shape[-1], index % logits.shape[-1]
        ended = (token == generation.eos_id) | (step == limit - 1)
        for b, k in (ended[:, :beams] & is_open[:, None]).nonzero().tolist():
            output = [*tokens[b, int(parent[b, k]), 1:].tolist(), int(token[b, k])]
            _finish(done[b], beams, best[b, k].item(), output, generation)
        tokens, scores, origin = _next_beams(best, parent, token, ended, tokens)
        state = model.select(state, origin)
        settled = [_settled(done[b], scores[b, 0].item(), beams, step + 1, generation) for b in range(batch)]
        is_open &= ~torch.tensor(settled, device=device)
        if not is_open.any():
            break
    return [found[:num_return] for found in done]


def _next_beams(
    best: Tensor, parent: Tensor, token: Tensor, ended: Tensor, tokens: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The best candidates (of [batch, 2 * beams]) that go on: their tokens, scores, and rows they come from."""
    batch, beams, _ = tokens.shape
    order = (ended.long() * 2 * beams + torch.arange(2 * beams, device=best.device)).argsort(dim=1)[:, :beams]
    scores = best.masked_fill(ended, -1e9).gather(1, order)
    rows = parent.gather(1, order) + torch.arange(batch, device=best.device)[:, None] * beams
    kept = tokens.view(batch * beams, -1)[rows.flatten()].view(batch, beams, -1)
    return torch.cat([kept, token.gather(1, order)[:, :, None]], dim=2), scores, rows.flatten()


def _finish(
    found: list[Hypothesis], beams: int, log_prob: float, tokens: list[int], generation: GenerationConfig
) -> None:
    found.append(Hypothesis(log_prob / len(tokens) ** generation.length_penalty, tokens))
    found.sort(key=lambda hypothesis: -hypothesis.score)
    del found[beams:]


def _settled(found: list[Hypothesis], best: float, beams: int, length: int, generation: GenerationConfig) -> bool:
    """Whether no running beam can still displace a finished one (Hugging Face's heuristic for early_stopping false)."""
    return len(found) == beams and found[-1].score >= best / length**generation.length_penalty


def pad_sources(sources: list[list[int]], pad_id: int, device: Any = None) -> tuple[Tensor, Tensor]:
    """Lists of ids -> int64 [batch, source_len] and its bool mask."""
    width = max(map(len, sources))
    source = torch.full((len(sources), width), pad_id, dtype=torch.int64)
    mask = torch.zeros(len(sources), width, dtype=torch.bool)
    for row, ids in enumerate(sources):
        source[row, : len(ids)] = torch.tensor(ids)
        mask[row, : len(ids)] = True
    return source.to(device), mask.to(device)
