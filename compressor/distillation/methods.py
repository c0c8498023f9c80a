"""The method table: each row says where contexts come from and what is learned there (Lin et al. 2020, section 3)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from compressor.distillation.contexts import Always, ContextPolicy, Mixture, Origin
from compressor.distillation.hypotheses import FirstHypothesis, HypothesisChoice, MostAgreed, NearestToReference
from compressor.distillation.losses import jensen_shannon, reverse_kl, skew_kl, soft_cross_entropy
from compressor.distillation.targets import BestToken, Distribution, Divergence, OwnToken, Target
from compressor.method_config import MethodConfig

FIRST = FirstHypothesis()


@dataclass(frozen=True)
class Method:
    """One row of the table."""

    contexts: ContextPolicy
    target: Target
    choice: HypothesisChoice = FIRST
    """Which of the teacher's outputs are contexts, where the teacher writes them."""

    @property
    def uses_rollouts(self) -> bool:
        """Whether the student writes contexts; such a method can learn from sources without a reference."""
        return Origin.STUDENT in self.contexts.origins

    @property
    def reads_teacher_outputs(self) -> bool:
        """Whether contexts are outputs of the teacher, written before training."""
        return Origin.TEACHER in self.contexts.origins

    def reads_model(self, top_k: int) -> bool:
        """Returns whether the target asks the teacher for more than labels have.

        Args:
            top_k: Most probable tokens that labels have at each position of the teacher's best outputs, or of the
                references; 0: none.
        """
        if isinstance(self.target, OwnToken):
            return False
        in_labels = self.contexts.origins in ({Origin.TEACHER}, {Origin.REFERENCE}) and not self.choice.compares
        return not (in_labels and isinstance(self.target, Distribution) and self.target.is_of_best(top_k))


METHODS = {
    "vanilla": Method(Always(Origin.REFERENCE), OwnToken()),
    "vanilla+full": Method(Always(Origin.REFERENCE), Distribution()),  # word-level, Kim & Rush 2016, section 3.1
    "seqkd": Method(Always(Origin.TEACHER), OwnToken()),  # Kim & Rush 2016, section 3.2
    "seqkd+full": Method(Always(Origin.TEACHER), Distribution()),
    "seqinter": Method(Always(Origin.TEACHER), OwnToken(), NearestToReference()),  # Kim & Rush 2016, section 3.3
    "mbr": Method(Always(Origin.TEACHER), OwnToken(), MostAgreed()),  # Wang et al. 2024
    "mbr+full": Method(Always(Origin.TEACHER), Distribution(), MostAgreed()),
    "imitkd": Method(Mixture(Origin.REFERENCE, Origin.STUDENT), BestToken()),
    "imitkd+full": Method(Mixture(Origin.REFERENCE, Origin.STUDENT), Distribution()),
}
"""By ``method.name``."""

TEACHER_CONTEXTS = {
    "imitkd": Method(Mixture(Origin.TEACHER, Origin.STUDENT), BestToken()),
    "imitkd+full": Method(Mixture(Origin.TEACHER, Origin.STUDENT), Distribution()),
}
"""ImitKD*: the rows of ``method.contexts: teacher``. A recipe refuses that setting for every other name."""


def resolve(config: MethodConfig) -> Method:
    """Returns the row that a recipe names, with the recipe's settings."""
    rows = TEACHER_CONTEXTS if config.contexts == "teacher" else METHODS
    row = rows[config.name]
    if isinstance(row.target, Distribution):
        target = Distribution(_divergence(config), config.temperature, config.teacher_top_k, config.reference_weight)
        row = replace(row, target=target)
    if isinstance(row.choice, MostAgreed):
        row = replace(row, choice=MostAgreed(config.mbr_hypotheses))
    return row


def _divergence(config: MethodConfig) -> Divergence:
    match config.divergence:
        case "forward_kl":
            return soft_cross_entropy
        case "reverse_kl":
            return reverse_kl
        case "jensen_shannon":
            return partial(jensen_shannon, weight=config.jsd_weight)
        case "skew_kl":
            return partial(skew_kl, skew=config.skew)
