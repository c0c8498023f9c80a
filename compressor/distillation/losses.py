"""What the student learns at a position. Losses are means over positions (Lin et al. 2020, section 3).

Shapes: positions = kept positions of a batch, vocab.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

FLOOR = torch.finfo(torch.float32).min
"""Logit of a suppressed token: its probability is exactly zero, and zero times it is not NaN."""


class _SoftCrossEntropy(torch.autograd.Function):
    """Cross-entropy to a distribution; the gradient, softmax minus target, is made at once and needs no graph."""

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


def full(logits: Tensor, probabilities: Tensor) -> Tensor:
    """-Σ_v π*(v) log π(v): cross-entropy to the teacher's distribution, which is forward KL plus a constant.

    Args:
        logits: the student's [positions, vocab].
        probabilities: the teacher's [positions, vocab], rows sum to 1.
    """
    loss: Tensor = _SoftCrossEntropy.apply(logits.float(), probabilities)  # type: ignore[no-untyped-call]
    return loss


def hard(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """-log π(label), optionally smoothed over the tokens that are not suppressed.

    Args:
        logits: the student's [positions, vocab]; suppressed tokens at ``FLOOR``.
        labels: int64 [positions].
        label_smoothing: weight of the uniform distribution.
    """
    logits = logits.float()
    loss = F.cross_entropy(logits, labels)
    if not label_smoothing:
        return loss
    allowed = logits > FLOOR
    log_probs = logits.log_softmax(dim=-1).masked_fill(~allowed, 0.0)
    uniform = -(log_probs.sum(dim=-1) / allowed.sum(dim=-1)).mean()
    return (1.0 - label_smoothing) * loss + label_smoothing * uniform
