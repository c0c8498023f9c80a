"""Losses at some positions, each summed over them (Lin et al. 2020, section 3).

Shapes: positions = some of those of a batch that carry loss, columns = tokens that may be generated.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

IGNORED = -100
"""Label of a position whose token may not be generated; it adds nothing to a hard loss."""


class _CrossEntropy(torch.autograd.Function):
    """Cross-entropy whose gradient is computed in the forward pass, in the memory of the log-probabilities."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
        """``target``: int64 labels [positions], or probabilities [positions, columns]."""
        gradient = logits.log_softmax(dim=-1)
        if target.dim() == logits.dim():
            loss: Tensor = -torch.linalg.vecdot(target, gradient).sum()
            gradient.exp_().sub_(target)
        else:
            counted = target != IGNORED
            labels, weights = target.where(counted, 0)[:, None], counted[:, None] * (1.0 - label_smoothing)
            loss = -(weights * gradient.gather(1, labels)).sum()
            if label_smoothing:
                loss -= label_smoothing * gradient.mean(dim=-1)[counted].sum()
            gradient.exp_()
            if label_smoothing:
                gradient.sub_(label_smoothing / logits.shape[-1])
            gradient.scatter_add_(1, labels, -weights.to(gradient.dtype))
            gradient[~counted] = 0.0
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient if bool(upstream[0] == 1) else gradient * upstream[0], None, None


def soft_cross_entropy(logits: Tensor, probabilities: Tensor) -> Tensor:
    """Returns -Σ_v π*(v) log π(v): cross-entropy to the teacher's distribution, forward KL plus a constant.

    Args:
        logits: the student's [positions, columns].
        probabilities: the teacher's [positions, columns], rows sum to 1.
    """
    loss: Tensor = _CrossEntropy.apply(logits, probabilities, 0.0)  # type: ignore[no-untyped-call]
    return loss


def hard_cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Returns -log π(label), optionally smoothed over all columns.

    Args:
        logits: the student's [positions, columns].
        labels: int64 [positions], columns, or ``IGNORED``.
        label_smoothing: weight of the uniform distribution.
    """
    loss: Tensor = _CrossEntropy.apply(logits, labels, label_smoothing)  # type: ignore[no-untyped-call]
    return loss
