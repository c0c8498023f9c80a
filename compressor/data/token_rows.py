"""Token ids of many texts in one flat array, in memory or mapped from a file."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]

BLOCK = 1 << 20
"""Tokens that are looked at together: whole arrays may be larger than what is to be held in memory."""


class TokenRows:
    """Token ids of many texts in one flat array: 4 bytes a token, where lists of Python integers take 36.

    A row that is None (a source without a reference) has length 0; no other row may be empty.
    """

    def __init__(self, rows: Iterable[Sequence[int] | None]) -> None:
        flat, lengths = array("i"), array("q")
        for row in rows:
            flat.extend(row or ())
            lengths.append(len(row or ()))
        self._set(np.asarray(flat, dtype=np.int32), np.asarray(lengths, dtype=np.int64))

    @classmethod
    def of(cls, flat: NDArray[np.int32], lengths: IntArray) -> Self:
        """Returns the rows that lie end to end in ``flat``, which may be mapped from a file."""
        rows = cls.__new__(cls)
        rows._set(np.asarray(flat), lengths)  # a view of class ndarray: slices of np.memmap cost three times as much
        return rows

    def _set(self, flat: NDArray[np.int32], lengths: IntArray) -> None:
        self._flat, self.lengths = flat, lengths
        self._ends: IntArray = np.cumsum(lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def distinct(self) -> set[int]:
        """The ids that occur."""
        blocks = (self._flat[start : start + BLOCK] for start in range(0, len(self._flat), BLOCK))
        return set().union(*(np.unique(block).tolist() for block in blocks))

    def sha256(self) -> str:
        """Digest of the ids and lengths, in hexadecimal."""
        digest = hashlib.sha256(np.ascontiguousarray(self.lengths, dtype=np.int64).tobytes())
        for index in range(len(self)):
            digest.update(self[index].tobytes())
        return digest.hexdigest()

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        return self._flat[self._ends[index] - self.lengths[index] : self._ends[index]]
