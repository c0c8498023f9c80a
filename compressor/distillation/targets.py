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

from compressor.decoding.best_column import best_column
from compressor.decoding.topk import top
from compressor.distillation.contexts import Contexts
from compressor.distillation.losses import best_and_rest, hard_cross_entropy, soft_cross_entropy
from compressor.distillation.output_loss import StudentOutput

TeacherLogits = Callable[[Tensor], Tensor]
"""Rows, bool [batch] -> the teacher's logits [positions of these rows, columns]."""


Divergence = Callable[[Tensor, Tensor], Tensor]
"""The student's logits and the teacher's probabilities, both [positions, columns] -> the sum over positions."""


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
            best = best_column(inputs.teacher_logits(from_student))
            labels = labels.masked_scatter(from_student[:, None] & contexts.loss_mask, best)
        return _mean_hard_loss(inputs, labels[contexts.loss_mask])


@dataclass(frozen=True)
class Distribution(Target):
    """The teacher's distribution."""

    divergence: Divergence = soft_cross_entropy
    temperature: float = 1.0
    """Softens both distributions; the loss is multiplied by its square, which keeps the size of the gradients (Hinton
    et al. 2015, section 2)."""
    top_k: int | None = None
    """Number of the teacher's most probable tokens that are compared one by one; all others are compared as one token
    with their whole probability. Joining outcomes never makes a divergence larger (Csiszár 1967), and nothing is said
    of how the rest is distributed, which was not read. None: all tokens are compared."""
    reference_weight: float = 0.0
    """Weight of the context's own token where a data set wrote the context, the divergence's being 1 minus it (Kim &
    Rush 2016, section 3.1)."""

    def loss(self, inputs: LossInputs) -> Tensor:
        """See Target."""
        contexts, label_smoothing = inputs.contexts, inputs.label_smoothing
        teacher = inputs.teacher_logits(torch.ones_like(contexts.from_data)).float()
        teacher = self._soften(teacher)
        best = None
        if self.top_k is not None and self.top_k < teacher.shape[-1]:
            _, best = top(teacher, self.top_k)
            teacher = best_and_rest(teacher, best)
        probabilities = teacher.softmax(dim=-1)
        from_data = contexts.from_data[:, None].expand_as(contexts.loss_mask)[contexts.loss_mask]
        labels = inputs.label_columns[contexts.loss_mask]

        def divergence(logits: Tensor, rows: slice | Tensor) -> Tensor:
            logits = self._soften(logits)
            if best is not None:
                logits = best_and_rest(logits, best[rows])
            return self.temperature**2 * self.divergence(logits, probabilities[rows])

        def loss(logits: Tensor, piece: slice) -> Tensor:
            if not self.reference_weight:
                return divergence(logits, piece)
            places = torch.arange(piece.start, piece.stop, device=logits.device)
            given, written = from_data[piece], ~from_data[piece]
            own = hard_cross_entropy(logits[given], labels[places[given]], label_smoothing)
            learned = divergence(logits[given], places[given])
            rest = divergence(logits[written], places[written])
            return self.reference_weight * own + (1 - self.reference_weight) * learned + rest

        return inputs.output.total(loss) / max(len(probabilities), 1)

    def _soften(self, logits: Tensor) -> Tensor:
        return logits if self.temperature == 1 else logits / self.temperature  # a pass over all logits is not free


def _mean_hard_loss(inputs: LossInputs, labels: Tensor) -> Tensor:
    """Returns the mean over positions (a scalar), to which those whose label may not be generated add nothing.

    So the mean of a batch is that of its parts, weighted by their positions. ``labels``: int64 [positions].
    """
    smoothing = inputs.label_smoothing
    total = inputs.output.total(lambda logits, piece: hard_cross_entropy(logits, labels[piece], smoothing))
    return total / max(len(labels), 1)
