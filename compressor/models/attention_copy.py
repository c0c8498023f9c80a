"""Attention of a student from its teacher's: fewer heads, smaller ones, or all as they are.

Shapes: D and d = widths of teacher and student, heads, size = numbers of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compressor.models.layers import CrossAttention, SelfAttention
from compressor.models.projection import Projection

Attention = SelfAttention | CrossAttention


def copy_attention(source: Attention, target: Attention, projection: Projection) -> None:
    """Fills an attention in place: the heads that can change the stream most, each cut to the target's size.

    For an input of norm one, a head adds at most the norm of its value matrix times its part of the output matrix. A
    smaller head has the best approximation of lower rank (a truncated singular value decomposition) of the two products
    that its matrices occur in: query with key, and value with output.
    """
    query, key, value = (
        torch.stack(torch.cat([projection.read(weight), bias[:, None]], dim=1).chunk(source.heads))
        for weight, bias in _inputs(source)
    )  # [heads, size, d + 1], the last column multiplies 1
    out = torch.stack(projection.write(source.out.weight).chunk(source.heads, dim=1))  # [heads, d, size]
    if target.heads < source.heads:
        strength = (out @ value).flatten(1).norm(dim=1)
        chosen = strength.topk(target.heads).indices.sort().values
        query, key, value, out = (part[chosen] for part in (query, key, value, out))
    size, wanted = query.shape[1], target.out.in_features // target.heads
    if wanted < size:
        scale = (wanted / size) ** 0.25  # scores are divided by the root of the size
        left, right = _lower_rank(query.transpose(1, 2), key, wanted)
        query, key = scale * left.transpose(1, 2), scale * right
        out, value = _lower_rank(out, value, wanted)
    for (weight, bias), part in zip(_inputs(target), (query, key, value), strict=True):
        weight.copy_(part.flatten(0, 1)[:, :-1])
        bias.copy_(part.flatten(0, 1)[:, -1])
    target.out.weight.copy_(out.transpose(0, 1).flatten(1))
    target.out.bias.copy_(projection.write(source.out.bias))


def _inputs(attention: Attention) -> list[tuple[Tensor, Tensor]]:
    """Returns weight [D, D] and bias [D] of query, key and value, as views."""
    if isinstance(attention, SelfAttention):
        return list(zip(attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3), strict=True))
    both = attention.key_value
    pairs = zip(both.weight.chunk(2), both.bias.chunk(2), strict=True)
    return [(attention.query.weight, attention.query.bias), *pairs]


def _lower_rank(left: Tensor, right: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Returns factors [heads, n, rank] and [heads, rank, m] of the best approximation of each ``left @ right``.

    Args:
        left: [heads, n, size].
        right: [heads, size, m].
        rank: less than size.
    """
    (rows, upper), (columns, lower) = torch.linalg.qr(left), torch.linalg.qr(right.transpose(1, 2))
    first, values, last = torch.linalg.svd(upper @ lower.transpose(1, 2), full_matrices=False)
    roots = values[:, :rank].sqrt()
    return rows @ (first[:, :, :rank] * roots[:, None]), (last[:, :rank] * roots[:, :, None]) @ columns.transpose(1, 2)
