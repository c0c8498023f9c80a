"""A shard of a label store: the arrays of some sources in one file, which is mapped into memory.

Shapes: n = sources of the shard, h = hypotheses of a source, k = tokens at a position, positions = contexts of all best
outputs of the shard, end to end.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from compressor.batching import TokenIds
from compressor.data.token_rows import TokenRows
from compressor.decoding.search import Hypothesis


class TopK(NamedTuple):
    """A teacher's distributions at some positions."""

    ids: NDArray[np.int32]
    """[positions, k]: the most probable tokens, best first."""
    logs: NDArray[np.float16]
    """[positions, k]: their natural log-probabilities among all tokens that the teacher may write."""
    remaining: NDArray[np.float32]
    """[positions]: the probability of all other tokens."""


class ShardArrays(NamedTuple):
    """The arrays of a shard; the last four are None where there are no distributions."""

    sources: NDArray[np.int32]
    """Token ids of the sources, end to end."""
    source_lengths: NDArray[np.int32]
    """[n]"""
    tokens: NDArray[np.int32]
    """Token ids of the outputs, best first, end to end."""
    lengths: NDArray[np.int32]
    """[n, h]; 0 where the search came to no further output."""
    scores: NDArray[np.float32]
    """[n, h]: see ``Hypothesis``; nan where there is none."""
    positions: NDArray[np.int32] | None = None
    """[n]: contexts of each best output."""
    ids: NDArray[np.int32] | None = None
    """See TopK."""
    logs: NDArray[np.float16] | None = None
    remaining: NDArray[np.float32] | None = None

    def to_bytes(self) -> bytes:
        """Returns the content of the shard's file (safetensors)."""
        return save({name: array for name, array in self._asdict().items() if array is not None})


class LabelShard:
    """A shard's file. Lengths are in memory; all else is read where it is needed, and no file stays open."""

    def __init__(self, path: Path) -> None:
        """``path``: a file that is known to be whole."""
        self._file = _map(path)
        lengths: NDArray[np.int32] = self._file.get_tensor("lengths")
        self._ends = np.cumsum(lengths, dtype=np.int64).reshape(lengths.shape)
        self._lengths, self._tokens = lengths, self._file.get_slice("tokens")
        self._starts: NDArray[np.int64] | None = None
        names = self._file.keys()
        if "positions" in names:
            ends = np.cumsum(self._file.get_tensor("positions"), dtype=np.int64)
            self._starts = np.concatenate([np.zeros(1, np.int64), ends])
            self._top_k = [self._file.get_slice(name) for name in TopK._fields]

    def output(self, row: int, place: int = 0) -> NDArray[np.int32]:
        """Returns the token ids of a source's output; ``place`` 0 is the best."""
        end = int(self._ends[row, place])
        tokens: NDArray[np.int32] = self._tokens[end - int(self._lengths[row, place]) : end]
        return tokens

    def hypotheses(self, row: int) -> list[Hypothesis]:
        """Returns the outputs of a source with their scores, best first."""
        scores = self._file.get_slice("scores")[row].tolist()
        count = max(1, int((self._lengths[row] > 0).sum()))
        return [Hypothesis(scores[place], self.output(row, place).tolist()) for place in range(count)]

    def top_k(self, row: int) -> TopK:
        """Returns the teacher's distributions at the positions of a source's best output; the shard must have some."""
        assert self._starts is not None  # whoever calls has looked at ``StoreRecord.top_k``
        start, end = int(self._starts[row]), int(self._starts[row + 1])
        return TopK(*(array[start:end] for array in self._top_k))

    def pairs(self) -> Iterator[tuple[TokenIds, TokenIds]]:
        """Yields the token ids of each source and of its best output."""
        lengths = self._file.get_tensor("source_lengths").astype(np.int64)
        sources = TokenRows.of(self._file.get_tensor("sources"), lengths)
        for row in range(len(sources)):
            yield sources[row], self.output(row)


def _map(path: Path) -> Any:
    """Returns the mapped file; its class has no types."""
    return safe_open(path, "np")
