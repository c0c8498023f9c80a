"""The method table: each row says where contexts come from and what is learned there (Lin et al. 2020, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

from compressor.config import MethodConfig
from compressor.distillation.contexts import Always, ContextPolicy, Mixture, Origin
from compressor.distillation.losses import soft_cross_entropy
from compressor.distillation.targets import BestToken, Distribution, OwnToken, Target


@dataclass(frozen=True)
class Method:
    """One row of the table."""

    contexts: ContextPolicy
    target: Target

    @property
    def uses_rollouts(self) -> bool:
        """Whether the student writes contexts; such a method can learn from sources without a reference."""
        return Origin.STUDENT in self.contexts.origins

    @property
    def reads_teacher_outputs(self) -> bool:
        """Whether contexts are outputs of the teacher, written before training."""
        return Origin.TEACHER in self.contexts.origins

    @property
    def reads_best_outputs_alone(self) -> bool:
        """Whether all contexts are the teacher's best outputs, whose distributions labels may have."""
        return self.contexts.origins == {Origin.TEACHER}

    @property
    def reads_distributions(self) -> bool:
        """Whether the teacher's distributions are learned, or its best tokens."""
        return not isinstance(self.target, OwnToken)


CROSS_ENTROPY = Distribution(soft_cross_entropy)

METHODS = {
    "vanilla": Method(Always(Origin.REFERENCE), OwnToken()),
    "vanilla+full": Method(Always(Origin.REFERENCE), CROSS_ENTROPY),
    "seqkd": Method(Always(Origin.TEACHER), OwnToken()),
    "seqkd+full": Method(Always(Origin.TEACHER), CROSS_ENTROPY),
    "imitkd": Method(Mixture(Origin.REFERENCE, Origin.STUDENT), BestToken()),
    "imitkd+full": Method(Mixture(Origin.REFERENCE, Origin.STUDENT), CROSS_ENTROPY),
}
"""By ``method.name``."""

TEACHER_CONTEXTS = {
    "imitkd": Method(Mixture(Origin.TEACHER, Origin.STUDENT), BestToken()),
    "imitkd+full": Method(Mixture(Origin.TEACHER, Origin.STUDENT), CROSS_ENTROPY),
}
"""ImitKD*: the rows of ``method.contexts: teacher``. A recipe refuses that setting for every other name."""


def resolve(config: MethodConfig) -> Method:
    """Returns the row that a recipe names."""
    rows = TEACHER_CONTEXTS if config.contexts == "teacher" else METHODS
    return rows[config.name]
