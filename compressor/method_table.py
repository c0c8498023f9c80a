"""The method table: where contexts come from, and what is learned there (Lin et al. 2020, section 3). Needs no torch.

``distillation.methods`` has what each row computes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal

MethodName = Literal[
    "vanilla", "vanilla+full", "seqkd", "seqkd+full", "seqinter", "mbr", "mbr+full", "imitkd", "imitkd+full"
]


class Origin(Enum):
    """Who wrote the output whose prefixes are an example's contexts."""

    REFERENCE = "reference"
    TEACHER = "teacher"
    STUDENT = "student"


@dataclass(frozen=True)
class MethodRow:
    """A row of the table, and what follows from it."""

    contexts: tuple[Origin] | tuple[Origin, Origin]
    """The origin of all contexts; or of two the first with probability β, else the second."""
    learns: Literal["own_token", "best_token", "distribution"]
    """The context's own next token; on rollouts the teacher's best token; or the teacher's distribution."""
    hypothesis: Literal["best", "nearest_to_reference", "most_agreed"] = "best"
    """Which of the teacher's hypotheses of a source is its output."""
    starts_from_run: bool = False
    """Whether it is a fine-tune of a student that was trained before."""

    @property
    def uses_rollouts(self) -> bool:
        """Whether the student writes contexts; such a method alone can learn from sources without a reference."""
        return Origin.STUDENT in self.contexts

    @property
    def reads_teacher_outputs(self) -> bool:
        """Whether contexts are outputs of the teacher, written before training."""
        return Origin.TEACHER in self.contexts

    @property
    def reads_teacher(self) -> bool:
        """Whether anything is read of a teacher."""
        return self.reads_teacher_outputs or self.learns != "own_token"

    @property
    def learns_distribution(self) -> bool:
        """Whether the teacher's distribution is learned."""
        return self.learns == "distribution"

    @property
    def learns_distribution_on_references(self) -> bool:
        """Whether the teacher's distribution is learned, on references among other contexts."""
        return self.learns_distribution and Origin.REFERENCE in self.contexts

    @property
    def compares_hypotheses(self) -> bool:
        """Whether all the teacher's hypotheses of a source are read; otherwise one is."""
        return self.hypothesis != "best"

    @property
    def can_do_with_labels(self) -> bool:
        """Whether labels on disk can have all that is read of the teacher.

        They have outputs; and distributions at the best outputs or at references, of the most probable tokens alone.
        """
        on_labelled = len(self.contexts) == 1 and not self.compares_hypotheses
        return self.reads_teacher and (self.learns == "own_token" or (self.learns_distribution and on_labelled))

    def with_teacher_outputs(self) -> MethodRow:
        """Returns the variant with the teacher's outputs in place of references (ImitKD*)."""
        return replace(self, contexts=(Origin.TEACHER, *self.contexts[1:]))


METHODS: dict[MethodName, MethodRow] = {
    "vanilla": MethodRow((Origin.REFERENCE,), "own_token"),
    "vanilla+full": MethodRow((Origin.REFERENCE,), "distribution"),  # word-level, Kim & Rush 2016, section 3.1
    "seqkd": MethodRow((Origin.TEACHER,), "own_token"),  # Kim & Rush 2016, section 3.2
    "seqkd+full": MethodRow((Origin.TEACHER,), "distribution"),
    "seqinter": MethodRow(  # Kim & Rush 2016, section 3.3
        (Origin.TEACHER,), "own_token", "nearest_to_reference", starts_from_run=True
    ),
    "mbr": MethodRow((Origin.TEACHER,), "own_token", "most_agreed"),  # Wang et al. 2024
    "mbr+full": MethodRow((Origin.TEACHER,), "distribution", "most_agreed"),
    "imitkd": MethodRow((Origin.REFERENCE, Origin.STUDENT), "best_token"),
    "imitkd+full": MethodRow((Origin.REFERENCE, Origin.STUDENT), "distribution"),
}
"""By ``method.name``."""


def names_of(fact: Callable[[MethodRow], bool]) -> str:
    """Returns the names of the rows of which ``fact`` is true, for messages."""
    return ", ".join(sorted(name for name, row in METHODS.items() if fact(row)))
