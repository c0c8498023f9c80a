"""Random numbers keyed by seed, visit and example: the same in any batch, on any process, and after a restart.

Shapes: n = examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
Words = NDArray[np.uint64]

GAMMA, FIRST, SECOND = (np.uint64(value) for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
"""Constants of SplitMix64."""


class Stream(IntEnum):
    """What numbers are drawn for; the streams are independent."""

    COIN = 1
    ROLLOUT = 2
    DROPOUT = 3
    AUGMENTATION = 4
    REPLACEMENT = 5
    REPLAY = 6


def uniform(
    stream: Stream, seed: int, visits: Sequence[int] | int, examples: Sequence[int] | IntArray, count: int = 1
) -> NDArray[np.float64]:
    """Returns numbers in [0, 1), float64 [n, count]: a hash of the key and of the number's place in its row.

    The hash applies the SplitMix64 generator's step (Steele et al. 2014) to one word of the key after another.
    NumPy's counter-based generator would need an object per example, which takes 57 µs; a hash takes the whole batch.

    Args:
        stream: what the numbers are for.
        seed: of the run.
        visits: how often each example was trained on before, [n] or one for all.
        examples: positions in the corpus, [n].
        count: numbers per example.
    """
    words = _next(np.array([seed % 2**64], dtype=np.uint64), int(stream))
    words = _next(_next(words, visits), examples)
    bits = _next(words[:, None], np.arange(count))
    numbers: NDArray[np.float64] = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return numbers


def torch_seed(stream: Stream, seed: int, visit: int, example: int) -> int:
    """Returns a seed below 2**53 for PyTorch's generator."""
    return int(uniform(stream, seed, visit, [example])[0, 0] * 2**53)


def _next(state: Words, word: IntArray | Sequence[int] | int) -> Words:
    """Returns the hash of a state and the next word of the key; arithmetic is modulo 2**64."""
    bits = (state ^ np.asarray(word).astype(np.uint64)) + GAMMA
    bits = (bits ^ (bits >> np.uint64(30))) * FIRST
    bits = (bits ^ (bits >> np.uint64(27))) * SECOND
    return bits ^ (bits >> np.uint64(31))
