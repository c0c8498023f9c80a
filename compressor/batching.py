"""Pads token ids and groups texts of similar length into batches under a token budget. Needs only numpy.

Shapes: rows = texts of a batch, longest = tokens of the longest of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

TokenIds = Sequence[int] | NDArray[np.int32]


def pad(rows: Sequence[TokenIds], pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Pads token ids on the right to the longest row.

    Returns:
        ids int64 [rows, longest], and a mask, bool [rows, longest], True on tokens of the rows.
    """
    lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
    mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    if mask.any():
        ids[mask] = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
    return ids, mask


def cut(lengths: Sequence[int], max_tokens: int, max_rows: int | None = None) -> Iterator[slice]:
    """Yields consecutive ranges of rows, each with a padded size of at most ``max_tokens``.

    Args:
        lengths: Tokens of each row, in the order of the rows.
        max_tokens: Most tokens of a range, padding included; a longer row has a range of its own.
        max_rows: Most rows of a range; None: no limit.
    """
    start, widest = 0, 0
    for end, length in enumerate(lengths):
        count = end - start + 1
        if count > 1 and (max(widest, length) * count > max_tokens or count > (max_rows or count)):
            yield slice(start, end)
            start, widest = end, 0
        widest = max(widest, length)
    if lengths:
        yield slice(start, len(lengths))


def bucket_by_length(lengths: Sequence[int], max_tokens: int, max_rows: int | None = None) -> list[list[int]]:
    """Returns batches of row indices of similar length, longest rows first. Arguments as in ``cut``."""
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    return [order[rows] for rows in cut([lengths[row] for row in order], max_tokens, max_rows)]
