"""Sampling among the most probable tokens, by random numbers that are given."""

from __future__ import annotations

from torch import Tensor

from compressor.decoding.greedy import Choose
from compressor.decoding.topk import top


def sample_top_k(k: int, draws: Tensor) -> Choose:
    """Returns a choice among the ``k`` most probable tokens, by their renormalised probabilities.

    Args:
        k: number of candidates.
        draws: float [batch] in [0, 1): a row takes the first candidate whose cumulative probability exceeds its draw.
    """

    def choose(logits: Tensor) -> Tensor:
        best, tokens = top(logits, min(k, logits.shape[-1]))
        below = best.double().softmax(dim=-1).cumsum(dim=-1)[:, :-1]  # the last candidate takes what remains
        return tokens.gather(1, (draws[:, None] >= below).sum(dim=-1, keepdim=True))[:, 0]

    return choose
