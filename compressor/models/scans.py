"""Recurrences over the positions of a prefix, element by element, with their gradients written out.

Shapes: batch, context_len, d.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._higher_order_ops.scan import scan


def scan_by_steps(forget: Tensor, update: Tensor) -> Tensor:
    """``c_t = forget_t * c_(t-1) + update_t`` for all t in order, with c_(-1) = 0; all [batch, context_len, d].

    Fastest on a CPU: at 40 x 25 x 256 on one core, forward and backward of ``parallel_scan`` take 4.5 times as long.
    """
    cells = update.clone()
    steps = cells.unbind(1)
    for cell, gate, previous in zip(steps[1:], forget.unbind(1)[1:], steps, strict=False):
        cell.addcmul_(gate, previous)
    return cells


def parallel_scan(forget: Tensor, update: Tensor) -> Tensor:
    """As ``scan_by_steps``, in log2(context_len) rounds.

    A prefix scan (Hillis and Steele 1986): after the round with offset s, position t covers the 2s positions
    before it, so that log2(context_len) rounds do. Nothing is divided, so it is stable for any gates in [0, 1].
    """
    offset, length = 1, update.shape[1]
    while offset < length:
        covered = torch.addcmul(update[:, offset:], forget[:, offset:], update[:, :-offset])
        update = torch.cat([update[:, :offset], covered], dim=1)
        offset *= 2
        if offset < length:
            half = offset // 2
            forget = torch.cat([forget[:, :half], forget[:, half:] * forget[:, :-half]], dim=1)
    return update


def linear_scan(forget: Tensor, update: Tensor) -> Tensor:
    """The scan that is fastest on the device of its arguments."""
    return (scan_by_steps if update.device.type == "cpu" else parallel_scan)(forget, update)


def backward_scan_by_steps(forget: Tensor, gradients: Tensor) -> Tensor:
    """``a_t = gradients_t + forget_(t+1) * a_(t+1)``, the whole gradient of each cell; all [batch, context_len, d]."""
    total = gradients.clone()
    steps, gates = total.unbind(1), forget.unbind(1)
    for position in range(len(steps) - 2, -1, -1):
        steps[position].addcmul_(gates[position + 1], steps[position + 1])
    return total


def backward_parallel_scan(forget: Tensor, gradients: Tensor) -> Tensor:
    """As ``backward_scan_by_steps``, in log2(context_len) rounds."""
    later = F.pad(forget[:, 1:], (0, 0, 0, 1))
    return parallel_scan(later.flip(1), gradients.flip(1)).flip(1)


def backward_scan(forget: Tensor, gradients: Tensor) -> Tensor:
    """The backward scan that is fastest on the device of its arguments."""
    return (backward_scan_by_steps if gradients.device.type == "cpu" else backward_parallel_scan)(forget, gradients)


def before(cells: Tensor, initial: Tensor) -> Tensor:
    """The cell before each position, ``initial`` [batch, d] before the first: [batch, context_len, d]."""
    return torch.cat([initial[:, None], cells[:, :-1]], dim=1)


class LinearScan(torch.autograd.Function):
    """``linear_scan`` whose gradient is one scan backwards."""

    @staticmethod
    def forward(ctx: Any, forget: Tensor, update: Tensor) -> Tensor:
        """See ``scan_by_steps``."""
        cells = linear_scan(forget, update)
        ctx.save_for_backward(forget, cells)
        return cells

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of both arguments."""
        forget, cells = ctx.saved_tensors
        total = backward_scan(forget, gradients[0])
        return before(cells, torch.zeros_like(cells[:, 0])).mul_(total), total


class GatedScan(torch.autograd.Function):
    """The cells of an SRU: ``c_t = f_t * c_(t-1) + (1 - f_t) * candidate_t`` (Lei et al. 2018, eq. 1, 2).

    ``f_t = sigmoid(gate_t + weight * c_(t-1))`` reads the cell before it, so that positions follow one another: three
    operations each. Given the cells the gradient is linear in itself, one ``backward_scan``.

    Forward and backward take a third to a fifth of the time of a loop that autograd differentiates, and less than that
    loop by ``torch.compile`` (``python -m benchmarks scan-cost``). C++ with all steps fused (``-O3 -march=native
    -ffast-math``) took two thirds, which would be 3% of an update of two layers a side in bf16. So nothing here needs
    a compiler.
    """

    @staticmethod
    def forward(ctx: Any, candidate: Tensor, gate: Tensor, weight: Tensor, initial: Tensor) -> Tensor:
        """Returns cells like ``candidate``.

        Args:
            ctx: Of the gradient.
            candidate, gate: [batch, context_len, d].
            weight: [d].
            initial: [batch, d], the cell before the first position.
        """
        cells, forget, cell = torch.empty_like(candidate), torch.empty_like(gate), initial
        for new, drawn, into, forgotten in zip(
            candidate.unbind(1), gate.unbind(1), cells.unbind(1), forget.unbind(1), strict=True
        ):
            torch.addcmul(drawn, weight, cell, out=forgotten).sigmoid_()
            cell = torch.lerp(new, cell, forgotten, out=into)
        ctx.save_for_backward(candidate, weight, initial, cells, forget)
        return cells

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradients of the four arguments.

        In place where it can be: this is bound by memory, and new tensors cost more than the arithmetic.
        """
        candidate, weight, initial, cells, forget = ctx.saved_tensors
        previous, keep = before(cells, initial), 1 - forget
        by_gate = (previous - candidate).mul_(forget).mul_(keep)
        by_previous = torch.addcmul(forget, by_gate, weight)
        total = backward_scan(by_previous, gradients[0])
        of_gate = by_gate.mul_(total)
        of_weight = previous.mul_(of_gate).sum(dim=(0, 1))
        return keep.mul_(total), of_gate, of_weight, total[:, 0] * by_previous[:, 0]


def traced_gated_scan(candidate: Tensor, gate: Tensor, weight: Tensor, initial: Tensor) -> Tensor:
    """As ``GatedScan``, as one operator that export writes as ONNX's Scan."""

    def turn(cell: Tensor, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        new, drawn = inputs
        forget = torch.sigmoid(drawn + weight * cell)
        cell = new + forget * (cell - new)
        return cell, cell.clone()

    _, cells = scan(turn, initial, (candidate.transpose(0, 1), gate.transpose(0, 1)))
    transposed: Tensor = cells.transpose(0, 1)
    return transposed


def gated_scan(candidate: Tensor, gate: Tensor, weight: Tensor, initial: Tensor) -> Tensor:
    """``GatedScan``, in the form that training or export needs."""
    if torch.compiler.is_exporting():
        return traced_gated_scan(candidate, gate, weight, initial)
    cells: Tensor = GatedScan.apply(candidate, gate, weight, initial)  # type: ignore[no-untyped-call]
    return cells
