"""Random numbers keyed by seed, visit and example: the same in any batch, on any process, and after a restart."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

WORD = 2**64 - 1


class Stream(IntEnum):
    """What numbers are drawn for; the streams are independent."""

    COIN = 1
    ROLLOUT = 2
    DROPOUT = 3


def uniform(stream: Stream, seed: int, visit: int, example: int, count: int = 1) -> NDArray[np.float64]:
    """Returns ``count`` numbers in [0, 1) from a counter-based generator (Philox; Salmon et al. 2011).

    Args:
        stream: what they are for.
        seed: of the run.
        visit: how often the example was trained on before.
        example: its position in the corpus.
        count: how many numbers.
    """
    # The generator counts in the counter's first word, so the other three words identify a draw.
    bits = np.random.Philox(key=seed & WORD, counter=[0, stream, visit, example])
    return np.random.Generator(bits).random(count)


def torch_seed(stream: Stream, seed: int, visit: int, example: int) -> int:
    """Returns a seed below 2**53 for PyTorch's generator."""
    return int(uniform(stream, seed, visit, example)[0] * 2**53)
