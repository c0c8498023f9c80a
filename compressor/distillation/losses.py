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
            if not counted.all():  # cheaper than to fill nothing
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


def reverse_kl(logits: Tensor, probabilities: Tensor) -> Tensor:
    """Returns Σ_v π(v) (log π(v) - log π*(v)), the reverse KL divergence; arguments as ``soft_cross_entropy``'s.

    Where the teacher's probability is less than a float's smallest number, that number takes its place.
    """
    log_student = logits.log_softmax(dim=-1)
    loss: Tensor = torch.linalg.vecdot(log_student.exp(), log_student - _log(probabilities)).sum()
    return loss


def jensen_shannon(logits: Tensor, probabilities: Tensor, weight: float) -> Tensor:
    """Returns λ KL(π* ‖ M) + (1-λ) KL(π ‖ M) with M = λ π* + (1-λ) π, the generalised Jensen-Shannon divergence.

    Agarwal et al. 2024 (GKD), equation 1. Divided by λ it is forward KL in the limit λ = 0, and divided by 1-λ reverse
    KL in the limit λ = 1.

    Args:
        logits, probabilities: as ``soft_cross_entropy``'s.
        weight: λ, between 0 and 1.
    """
    log_student = logits.log_softmax(dim=-1)
    student = log_student.exp()
    log_mixture = _log(weight * probabilities + (1 - weight) * student)
    of_teacher = torch.xlogy(probabilities, probabilities).sum() - (probabilities * log_mixture).sum()
    of_student: Tensor = torch.linalg.vecdot(student, log_student - log_mixture).sum()
    return weight * of_teacher + (1 - weight) * of_student


def skew_kl(logits: Tensor, probabilities: Tensor, skew: float) -> Tensor:
    """Returns KL(π* ‖ α π* + (1-α) π), the skew KL divergence (Ko et al. 2024, DistiLLM, equation 3).

    Args:
        logits, probabilities: as ``soft_cross_entropy``'s.
        skew: α, between 0 and 1.
    """
    log_mixture = _log(skew * probabilities + (1 - skew) * logits.softmax(dim=-1))
    return torch.xlogy(probabilities, probabilities).sum() - (probabilities * log_mixture).sum()


def best_and_rest(logits: Tensor, best: Tensor) -> Tensor:
    """Returns logits [positions, k + 1] of a distribution over chosen tokens and, as one, over all others.

    The others' logit is the logarithm of the sum of their exponentials, so that a softmax of the result has the
    probabilities of the softmax of ``logits``, added up.

    Args:
        logits: [positions, columns].
        best: int64 [positions, k], the chosen columns of each position, none twice.
    """
    rest = logits.scatter(1, best, -torch.inf).logsumexp(dim=-1, keepdim=True)
    return torch.cat([logits.gather(1, best), rest], dim=-1)


def _log(probabilities: Tensor) -> Tensor:
    """Returns logarithms that are finite at 0."""
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()


def hard_cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Returns -log π(label), optionally smoothed over all columns.

    Args:
        logits: the student's [positions, columns].
        labels: int64 [positions], columns, or ``IGNORED``.
        label_smoothing: weight of the uniform distribution.
    """
    loss: Tensor = _CrossEntropy.apply(logits, labels, label_smoothing)  # type: ignore[no-untyped-call]
    return loss
