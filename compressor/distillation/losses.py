"""What the student learns at a position. Losses are means over positions (Lin et al. 2020, section 3).

Shapes: positions = kept positions of a batch, tokens = those that may be generated.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100
"""Label of a position whose token may not be generated: it carries no hard loss."""


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
        logits: the student's [positions, tokens].
        probabilities: the teacher's [positions, tokens], rows sum to 1.
    """
    loss: Tensor = _SoftCrossEntropy.apply(logits.float(), probabilities)  # type: ignore[no-untyped-call]
    return loss


def hard(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """-log π(label), optionally smoothed over all tokens.

    Args:
        logits: the student's [positions, tokens].
        labels: int64 [positions], places among the tokens, or ``IGNORED``.
        label_smoothing: weight of the uniform distribution.
    """
    return F.cross_entropy(logits.float(), labels, ignore_index=IGNORED, label_smoothing=label_smoothing)
