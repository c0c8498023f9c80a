"""Linear layers whose bf16 products come in few sizes on a processor.

For each size of such a product oneDNN compiles code: 4 to 12 ms for what takes 1 ms to run, and up to 2 MB. It keeps
the last 1,024; the batches of a corpus have thousands of sizes. Some more rows, of zeros, make them few.

Shapes: rows = tokens of a batch, padding included; filled = rows rounded up by ``filled_rows``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZES = 16
"""Numbers of rows between a power of two and the next: rows are filled up by 3% in the mean."""

LEAST_STEP = 16
"""Rows that are computed together: a tile of AMX."""


def filled_rows(rows: int) -> int:
    """Returns the next of the numbers of rows that products have."""
    step = max(LEAST_STEP, (1 << rows.bit_length()) // (2 * SIZES))
    return -(-rows // step) * step


class Linear(nn.Linear):
    """PyTorch's layer, by way of ``linear``."""

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        return linear(inputs, self.weight, self.bias)


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Returns what ``F.linear`` does, also under autocast."""
    if not _compiles_each_size(inputs):
        return F.linear(inputs, weight, bias)
    flat: Tensor = _Linear.apply(inputs.flatten(0, -2), weight, bias)  # type: ignore[no-untyped-call]
    return flat.view(*inputs.shape[:-1], len(weight))


def fill(values: Tensor, rows: int, dtype: torch.dtype) -> Tensor:
    """Returns values [any, width] as that kind of number, with rows of zeros after them up to a number of rows."""
    if values.dtype == dtype and len(values) == rows:
        return values
    filled = values.new_empty(rows, values.shape[1], dtype=dtype)
    filled[: len(values)] = values
    filled[len(values) :] = 0.0
    return filled


def _compiles_each_size(inputs: Tensor) -> bool:
    """Returns whether a product of these inputs is oneDNN's."""
    if inputs.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else inputs.dtype
    return dtype == torch.bfloat16


class _Linear(torch.autograd.Function):
    """A product in bf16, in the sizes of ``filled_rows``."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """[rows, inputs], [outputs, inputs], [outputs] -> [rows, outputs]."""
        filled, matrix = fill(inputs, filled_rows(len(inputs)), torch.bfloat16), weight.to(torch.bfloat16)
        ctx.save_for_backward(filled, matrix)
        ctx.kinds = inputs.dtype, weight.dtype, bias if bias is None else bias.dtype
        return F.linear(filled, matrix, bias if bias is None else bias.to(torch.bfloat16))[: len(inputs)]

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (filled, matrix), (kind, weight_kind, bias_kind) = ctx.saved_tensors, ctx.kinds
        rows, gradient = len(upstream[0]), fill(upstream[0], len(filled), torch.bfloat16)
        wanted = ctx.needs_input_grad
        return (
            (gradient @ matrix)[:rows].to(kind) if wanted[0] else None,
            (gradient.T @ filled).to(weight_kind) if wanted[1] else None,
            gradient.sum(dim=0).to(bias_kind) if wanted[2] else None,
        )
