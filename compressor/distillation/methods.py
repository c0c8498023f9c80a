"""The methods as a table: where contexts come from, and what is learned there (PAPER: two axes)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from compressor.config import MethodConfig


@dataclass(frozen=True)
class Method:
    """One row of the table."""

    data_contexts: Literal["references", "teacher"]
    """Contexts of the data-set side: the references, or the teacher's own outputs."""
    own_contexts: bool
    """Whether examples are replaced, with probability 1 - β, by the student's own output."""
    full: bool
    """Learn the teacher's distribution; else one token: the context's own, or the teacher's best on own contexts."""

    @property
    def needs_teacher_outputs(self) -> bool:
        """Whether the teacher must write an output for every source beforehand."""
        return self.data_contexts == "teacher"

    @property
    def needs_teacher_logits(self) -> bool:
        """Whether the teacher must look at contexts during training."""
        return self.full or self.own_contexts


METHODS = {
    "vanilla": Method("references", own_contexts=False, full=False),
    "vanilla+full": Method("references", own_contexts=False, full=True),
    "seqkd": Method("teacher", own_contexts=False, full=False),
    "seqkd+full": Method("teacher", own_contexts=False, full=True),
    "imitkd": Method("references", own_contexts=True, full=False),
    "imitkd+full": Method("references", own_contexts=True, full=True),
}


def resolve(config: MethodConfig) -> Method:
    """The row that a recipe names; ImitKD with ``contexts: teacher`` is ImitKD*."""
    row = METHODS[config.name]
    if row.own_contexts and config.contexts == "teacher":
        return Method("teacher", own_contexts=True, full=row.full)
    return row
