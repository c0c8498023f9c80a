"""The recipe's ``method`` section: where contexts come from, and what is learned there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from pydantic import Field

from compressor.method_table import METHODS, MethodName, MethodRow, names_of
from compressor.model_config import Conflict, Section

DivergenceName = Literal["forward_kl", "reverse_kl", "jensen_shannon", "skew_kl"]


class ScheduleConfig(Section):
    """β, the probability that an example's contexts come from the data set, over progress u in [0, 1]."""

    name: Literal["exponential", "linear", "reversed_sigmoid", "constant"] = Field(
        "exponential", description="β(u): r^-u, 1-u, 1/(1+exp(20(u-0.5))), or `value`."
    )
    r: float = Field(200.0, ge=1, description="exponential: β falls from 1 to 1/r.")
    value: float = Field(0.0, ge=0, le=1, description="constant: β itself.")
    warmup: float = Field(0.0, ge=0, lt=1, description="Share of the run, at its start, in which β is 1.")


class RolloutConfig(Section):
    """How the student writes contexts."""

    batches: int = Field(4, ge=1, description="Updates whose rollouts are written together.")
    strategy: Literal["greedy", "topk", "speculative"] = Field(
        "greedy",
        description="greedy: the best token. topk: a sample among the best `top_k`. speculative (Xu et al. 2024): such "
        "a sample, if it is among the teacher's best `teacher_top_k` tokens there, else a sample of the teacher's "
        "among them; the teacher must be a run, or have Marian's or BART's layout.",
    )
    top_k: int = Field(5, ge=1, description="Candidates of the student, of the strategies topk and speculative.")
    teacher_top_k: int = Field(25, ge=1, description="Tokens that the teacher accepts, of the strategy speculative.")
    replay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Probability that the student's earlier output for the same source is taken again, where there is "
        "one, and no rollout is written (Ko et al. 2024). Works from the second pass over the data on.",
    )
    background: bool = Field(
        False,
        description="A second process writes the rollouts of the next `batches` while these are trained on, with the "
        "weights from before: no time is lost if a processor is free. Runs are then not the same after a restart.",
    )
    max_new_tokens: int | None = Field(None, ge=1, description="Longest rollout; null: data.max_target_tokens.")
    max_source_ratio: float | None = Field(
        2.0,
        gt=0,
        description="Second limit of a rollout: this multiple of the source's tokens, plus 10; null: none.",
    )


def _uses_rollouts(row: MethodRow) -> bool:
    return row.uses_rollouts


def _learns_distribution(row: MethodRow) -> bool:
    return row.learns_distribution


ROWS_OF_SETTINGS: dict[str, Callable[[MethodRow], bool]] = {
    "contexts": _uses_rollouts,
    "divergence": _learns_distribution,
    "temperature": _learns_distribution,
    "teacher_top_k": _learns_distribution,
    "reference_weight": lambda row: row.learns_distribution_on_references,
    "mbr_hypotheses": lambda row: row.hypothesis == "most_agreed",
}
"""What a row must have so that a field of ``method`` may differ from its default."""


class MethodConfig(Section):
    """Where contexts come from, and what is learned there."""

    name: MethodName = Field("imitkd+full", description="Name of the method; docs/distilling.md compares them.")
    contexts: Literal["references", "teacher"] = Field(
        "references", description="Data-set side of the ImitKD mixture: references, or the teacher's outputs (ImitKD*)."
    )
    divergence: DivergenceName = Field(
        "forward_kl",
        description="Distance to the teacher's distribution, for the names with `+full`; `jensen_shannon` is the "
        "generalised one of Agarwal et al. 2024, `skew_kl` that of Ko et al. 2024.",
    )
    jsd_weight: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="jensen_shannon: the teacher's weight λ; near 0 it is like forward KL, near 1 like reverse KL.",
    )
    skew: float = Field(
        0.1, gt=0, lt=1, description="skew_kl: the teacher's share α of the mixture to which it is compared."
    )
    temperature: float = Field(
        1.0,
        gt=0,
        description="Both distributions are softened by it, and the loss is multiplied by its square (Hinton et al. "
        "2015), for the names with `+full`.",
    )
    teacher_top_k: int | None = Field(
        None,
        ge=1,
        description="Only the teacher's k most probable tokens are compared one by one, and all others as one, with "
        "their whole probability; null: all tokens; for the names with `+full`.",
    )
    reference_weight: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="On references, the weight of their own next token beside the teacher's distribution (Kim & Rush "
        "2016), for `vanilla+full` and `imitkd+full`; rollouts learn from the teacher alone.",
    )
    mbr_hypotheses: int = Field(
        1,
        ge=1,
        description="Hypotheses of a source that `mbr` and `mbr+full` train on, one a pass in turn (MBR-n, Wang et al. "
        "2024); `teacher.num_beams` are compared.",
    )
    schedule: ScheduleConfig = Field(
        default_factory=ScheduleConfig, description="How β falls, for the names with `imitkd`."
    )
    rollout: RolloutConfig = Field(
        default_factory=RolloutConfig, description="How the student writes contexts, for the names with `imitkd`."
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Of losses that learn one token (names without `+full`, and `reference_weight`); 0 is off.",
    )

    def conflicts(self) -> Iterator[Conflict]:
        """See Section."""
        yield from self._row_conflicts()
        for field, divergence in (("jsd_weight", "jensen_shannon"), ("skew", "skew_kl")):
            if self._changed(field) and self.divergence != divergence:
                message = f"{field}: {getattr(self, field)} is for divergence: {divergence}, not for {self.divergence}"
                yield Conflict(message, (field, "divergence"))
        for field, value in (("strategy", "speculative"), ("replay", self.rollout.replay)):
            if self.rollout.background and value and getattr(self.rollout, field) == value:
                message = f"rollout.background: not with rollout.{field} {value}; leave out one of them"
                yield Conflict(message, ("rollout.background", f"rollout.{field}"))
        if self.contexts == "teacher" and self.reference_weight:
            message = f"reference_weight: {self.reference_weight} needs contexts: references, there are none of teacher"
            yield Conflict(message, ("reference_weight", "contexts"))

    def _row_conflicts(self) -> Iterator[Conflict]:
        """Yields the settings that are for other rows of the table."""
        rollout = self.rollout
        settings: tuple[tuple[str, object, bool, Callable[[MethodRow], bool]], ...] = (
            *((field, getattr(self, field), self._changed(field), fact) for field, fact in ROWS_OF_SETTINGS.items()),
            ("rollout.strategy", rollout.strategy, rollout.strategy == "speculative", _uses_rollouts),
            ("rollout.replay", rollout.replay, bool(rollout.replay), _uses_rollouts),
            ("rollout.background", "true", rollout.background, _uses_rollouts),
        )
        for field, value, is_set, fact in settings:
            if is_set and not fact(METHODS[self.name]):
                yield Conflict(f"{field}: {value} is for {names_of(fact)}, not for {self.name}", (field, "name"))

    @property
    def row(self) -> MethodRow:
        """The row of the method table, with the recipe's ``contexts``."""
        row = METHODS[self.name]
        return row.with_teacher_outputs() if self.contexts == "teacher" else row

    @property
    def reads_labels(self) -> bool:
        """Whether labels on disk have something that the method reads."""
        return self.row.reads_teacher_outputs or self.row.can_do_with_labels

    @property
    def is_of_best_tokens(self) -> bool:
        """Whether a divergence depends on the teacher's most probable tokens and the others' mass alone."""
        return self.teacher_top_k is not None and self.temperature == 1

    def reads_model(self, top_k: int) -> bool:
        """Returns whether the method asks the teacher for more than labels have.

        Args:
            top_k: Most probable tokens that labels have at each position of the teacher's best outputs, or of the
                references; 0: none.
        """
        if self.row.learns == "own_token":
            return False
        enough = self.is_of_best_tokens and (self.teacher_top_k or 0) <= top_k
        return not (self.row.can_do_with_labels and enough)

    def _changed(self, field: str) -> bool:
        """Returns whether a field has another value than its default; a run's recipe names all fields."""
        return bool(getattr(self, field) != type(self).model_fields[field].default)
