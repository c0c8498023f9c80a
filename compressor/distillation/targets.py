"""Targets: what the student learns at a context, and what it reads of the teacher for that.

Shapes: batch = examples, context_len, positions = those that carry loss, columns = tokens that may be generated.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from compressor.distillation.contexts import Contexts
from compressor.distillation.losses import IGNORED, hard_cross_entropy
from compressor.distillation.output_loss import StudentOutput

TeacherLogits = Callable[[Tensor], Tensor]
"""Rows, bool [batch] -> the teacher's logits [positions of these rows, columns]."""


class LossInputs(NamedTuple):
    """What a target may read."""

    output: StudentOutput
    contexts: Contexts
    label_columns: Tensor
    """int64 [batch, context_len]: the column of each label; ``IGNORED`` where it may not be generated."""
    teacher_logits: TeacherLogits
    label_smoothing: float
    """Weight of the uniform distribution; of hard labels only."""


class Target(ABC):
    """A loss at every position that carries one."""

    @abstractmethod
    def loss(self, inputs: LossInputs) -> Tensor:
        """Returns the mean loss over positions (a scalar)."""


@dataclass(frozen=True)
class OwnToken(Target):
    """The context's own next token."""

    def loss(self, inputs: LossInputs) -> Tensor:
        """See Target."""
        labels = inputs.label_columns[inputs.contexts.loss_mask]
        return _mean_hard_loss(inputs, labels)


@dataclass(frozen=True)
class BestToken(Target):
    """The teacher's most probable token on contexts of the student; the context's own next token on all others."""

    def loss(self, inputs: LossInputs) -> Tensor:
        """See Target."""
        labels, contexts = inputs.label_columns, inputs.contexts
        from_student = ~contexts.from_data
        if bool(from_student.any()):
            best = inputs.teacher_logits(from_student).argmax(dim=-1)
            labels = labels.masked_scatter(from_student[:, None] & contexts.loss_mask, best)
        return _mean_hard_loss(inputs, labels[contexts.loss_mask])


@dataclass(frozen=True)
class Distribution(Target):
    """The teacher's distribution."""

    divergence: Callable[[Tensor, Tensor], Tensor]
    """Of ``losses``: the student's logits and the teacher's probabilities -> the sum over positions."""

    def loss(self, inputs: LossInputs) -> Tensor:
        """See Target."""
        every_row = torch.ones_like(inputs.contexts.from_data)
        probabilities = inputs.teacher_logits(every_row).float().softmax(dim=-1)
        total = inputs.output.total(lambda logits, piece: self.divergence(logits, probabilities[piece]))
        return total / max(len(probabilities), 1)


def _mean_hard_loss(inputs: LossInputs, labels: Tensor) -> Tensor:
    """Returns the mean over positions whose label may be generated (a scalar); ``labels``: int64 [positions]."""
    smoothing = inputs.label_smoothing
    total = inputs.output.total(lambda logits, piece: hard_cross_entropy(logits, labels[piece], smoothing))
    return total / (labels != IGNORED).sum().clamp(min=1)
