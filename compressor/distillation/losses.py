"""Losses of a batch, each a mean over positions (Lin et al. 2020, section 3).

Shapes: positions = those of a batch that carry loss, columns = tokens that may be generated.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100
"""Label of a position whose token may not be generated; it adds nothing to a hard loss."""


class _SoftCrossEntropy(torch.autograd.Function):
    """Cross-entropy to a distribution, whose gradient (softmax minus target) is computed in the forward pass."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, probabilities: Tensor) -> Tensor:
        log_z = logits.logsumexp(dim=-1)
        loss: Tensor = (log_z - torch.linalg.vecdot(probabilities, logits)).mean()
        gradient = (logits - log_z[:, None]).exp_().sub_(probabilities).div_(max(logits.shape[0], 1))
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[0], None


def soft_cross_entropy(logits: Tensor, probabilities: Tensor) -> Tensor:
    """Returns -Σ_v π*(v) log π(v): cross-entropy to the teacher's distribution, forward KL plus a constant.

    Args:
        logits: the student's [positions, columns].
        probabilities: the teacher's [positions, columns], rows sum to 1.
    """
    loss: Tensor = _SoftCrossEntropy.apply(logits.float(), probabilities)  # type: ignore[no-untyped-call]
    return loss


def hard_cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Returns -log π(label), optionally smoothed over all columns.

    Args:
        logits: the student's [positions, columns].
        labels: int64 [positions], columns, or ``IGNORED``.
        label_smoothing: weight of the uniform distribution.
    """
    return F.cross_entropy(logits.float(), labels, ignore_index=IGNORED, label_smoothing=label_smoothing)
