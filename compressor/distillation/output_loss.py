"""The output layer and a loss on it, some positions at a time: all logits of a batch are never in memory together.

A batch of 4,000 positions and 16,000 columns has 256 MB of logits, and several passes over them cost more than the
whole Transformer. A piece of them stays in the processor's cache; its gradient is computed at once, and what remains
are the gradients of the features and of the output layer.

Shapes: positions = those of a batch that carry loss, d = model width, columns = tokens that may be generated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from compressor.models.linear import fill, filled_rows

PIECE = {"cpu": 2**23}
"""Logits that are computed together, by device; see ``LARGE``."""

IN_CACHE = {"cpu": 2**18}
"""Logits whose loss is computed together, by device: 1 MB in float32; see ``LARGE``."""

LARGE = 2**26
"""Logits that are computed together on any other device: its memory is fast, and starting an operator is not."""

ALIGNED = 32
"""The columns are filled up to a multiple of this: a bf16 product of 15,998 takes 1.4 times as long as of 16,000."""

PieceLoss = Callable[[Tensor, slice], Tensor]
"""Logits [rows, columns] in float32, the places of the rows -> the sum of the losses there, a scalar."""


class StudentOutput(NamedTuple):
    """The student's last hidden layer at every position that carries loss, and its output layer."""

    features: Tensor
    """[positions, d]"""
    weight: Tensor
    """[columns, d]"""
    bias: Tensor
    """[columns]"""

    def total(self, loss: PieceLoss) -> Tensor:
        """Returns the sum of a loss over all positions (a scalar)."""
        total: Tensor = _TotalLoss.apply(*self, loss)  # type: ignore[no-untyped-call]
        return total


class _TotalLoss(torch.autograd.Function):
    """Sum of a loss over pieces, whose gradients are computed in the forward pass."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, loss: PieceLoss) -> Tensor:
        device, columns = features.device.type, weight.shape[0]
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype
        count, filled = len(features), filled_rows(len(features))
        inputs = fill(features, filled, dtype)
        matrix = F.pad(weight.to(dtype), (0, 0, 0, -columns % ALIGNED))
        together, rows = (max(1, of.get(device, LARGE) // columns) for of in (PIECE, IN_CACHE))
        size = math.ceil(filled / max(1, math.ceil(filled / together)))  # pieces of even sizes
        total = torch.zeros((), device=features.device)
        by_features = features.new_empty(filled, features.shape[1])
        by_weight, by_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        with torch.autocast(device, enabled=False):
            for start in range(0, filled, size or 1):
                piece = slice(start, min(start + size, filled))
                whole = F.linear(inputs[piece], matrix)  # zero in the rows and columns that were filled up
                logits = whole[: max(0, count - start), :columns]
                for first in range(0, len(logits), rows):
                    part = slice(first, min(first + rows, len(logits)))
                    places = slice(start + first, start + part.stop)
                    value, gradient = _with_gradient(loss, logits[part].float().add_(bias), places)
                    total += value
                    logits[part] = gradient
                    by_bias += gradient.sum(dim=0)
                by_features[piece] = whole @ matrix
                by_weight += (whole.T @ inputs[piece])[:columns]
        ctx.save_for_backward(by_features[:count], by_weight, by_bias)
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        by_features, by_weight, by_bias = ctx.saved_tensors
        return by_features * upstream[0], by_weight * upstream[0], by_bias * upstream[0], None


def _with_gradient(loss: PieceLoss, logits: Tensor, places: slice) -> tuple[Tensor, Tensor]:
    """Returns a loss of logits in float32, and its gradient."""
    with torch.enable_grad():
        value = loss(logits.requires_grad_(), places)
        (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient
