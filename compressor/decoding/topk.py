"""Selects the best columns of wide rows of scores in two stages.

A row is split into groups. The best ``count`` elements lie in the ``count`` groups with the greatest maxima, so only
those are searched. ``top_grouped`` is for the exported graph, where this takes a third of the time of ``TopK`` over the
row, because the maximum is vectorised; ``top`` is for PyTorch, and takes rows of any width.
"""

from __future__ import annotations

import torch
from torch import Tensor

GROUP = 32
"""Number of columns in a group."""


def top(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns what ``scores.topk(count)`` does for scores [rows, columns], best first; fast on a processor, too.

    Ties are broken arbitrarily.
    """
    columns = scores.shape[1]
    whole = columns // GROUP * GROUP
    if scores.device.type != "cpu" or whole < 2 * count * GROUP:
        values, best = scores.topk(count, dim=1)
        return values, best
    groups = scores[:, :whole].view(len(scores), whole // GROUP, GROUP)
    chosen = groups.amax(dim=2).topk(count, dim=1).indices[:, :, None]
    places = (chosen * GROUP + torch.arange(GROUP)).flatten(1)
    rest = torch.arange(whole, columns).expand(len(scores), -1)
    places = torch.cat([places, rest], dim=1)
    values, best = scores.gather(1, places).topk(count, dim=1)
    return values, places.gather(1, best)


def can_group(columns: int, most: int) -> bool:
    """Returns whether ``columns`` split evenly into groups, at least ``most`` of them."""
    return columns % GROUP == 0 and columns // GROUP >= most


def group_starts(rows: Tensor, columns: int) -> Tensor:
    """Returns the index of each row's first group, int64 [rows, 1]; only the size of ``rows`` [rows, ...] is used."""
    return torch.arange(rows.shape[0], device=rows.device)[:, None] * (columns // GROUP)


def top_grouped(scores: Tensor, count: int, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Returns values and columns [rows, count] of ``scores.topk(count)`` for scores [rows, columns], best first.

    ``can_group`` must be true of the scores. Ties are broken arbitrarily. ``starts`` are from ``group_starts``.
    """
    rows, columns = scores.shape
    pieces = scores.view(-1, GROUP)
    best = pieces.amax(dim=1).view(rows, columns // GROUP).topk(count, dim=1).indices
    candidates = pieces.index_select(0, (best + starts).flatten()).view(rows, count * GROUP)
    values, index = candidates.topk(count, dim=1)
    chosen = best[:, :, None] * GROUP + torch.arange(GROUP, device=scores.device)
    return values, chosen.view(rows, count * GROUP).gather(1, index)
