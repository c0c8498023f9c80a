"""The recipe's ``method`` section: where contexts come from, and what is learned there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from compressor.model_config import Conflict, Section

MethodName = Literal[
    "vanilla", "vanilla+full", "seqkd", "seqkd+full", "seqinter", "mbr", "mbr+full", "imitkd", "imitkd+full"
]
DivergenceName = Literal["forward_kl", "reverse_kl", "jensen_shannon", "skew_kl"]
TEACHERLESS_METHODS: frozenset[MethodName] = frozenset({"vanilla"})
"""Methods that read nothing of a teacher."""
ROLLOUT_METHODS: frozenset[MethodName] = frozenset({"imitkd", "imitkd+full"})
"""Methods whose contexts the student writes; they alone learn from sources without a reference."""
TEACHER_CONTEXT_METHODS: frozenset[MethodName] = frozenset({"imitkd", "imitkd+full"})
"""Methods that have a variant with the teacher's outputs in place of references (ImitKD*)."""
FULL_METHODS: frozenset[MethodName] = frozenset({"vanilla+full", "seqkd+full", "mbr+full", "imitkd+full"})
"""Methods that learn the teacher's distribution."""
REFERENCE_METHODS: frozenset[MethodName] = frozenset({"vanilla+full", "imitkd+full"})
"""Methods that learn the teacher's distribution, on references among others."""
N_BEST_METHODS: frozenset[MethodName] = frozenset({"seqinter", "mbr", "mbr+full"})
"""Methods that choose among the teacher's hypotheses of a source."""
OUTPUT_METHODS: frozenset[MethodName] = frozenset({"seqkd", "seqkd+full", *N_BEST_METHODS})
"""Methods whose contexts are all outputs of the teacher."""
LABEL_METHODS: frozenset[MethodName] = OUTPUT_METHODS - {"mbr+full"} | {"vanilla+full"}
"""Methods that can do with labels on disk alone."""


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
        for field, names in (
            ("contexts", TEACHER_CONTEXT_METHODS),
            ("divergence", FULL_METHODS),
            ("temperature", FULL_METHODS),
            ("teacher_top_k", FULL_METHODS),
            ("reference_weight", REFERENCE_METHODS),
            ("mbr_hypotheses", frozenset({"mbr", "mbr+full"})),
        ):
            if self._changed(field) and self.name not in names:
                choices, value = ", ".join(sorted(names)), getattr(self, field)
                yield Conflict(f"{field}: {value} is for {choices}, not for {self.name}", (field, "name"))
        for field, divergence in (("jsd_weight", "jensen_shannon"), ("skew", "skew_kl")):
            if self._changed(field) and self.divergence != divergence:
                message = f"{field}: {getattr(self, field)} is for divergence: {divergence}, not for {self.divergence}"
                yield Conflict(message, (field, "divergence"))
        if self.name not in ROLLOUT_METHODS:
            choices = ", ".join(sorted(ROLLOUT_METHODS))
            if self.rollout.strategy == "speculative":
                message = f"rollout.strategy: speculative is for {choices}, not for {self.name}"
                yield Conflict(message, ("rollout.strategy", "name"))
            if self.rollout.replay:
                message = f"rollout.replay: {self.rollout.replay} is for {choices}, not for {self.name}"
                yield Conflict(message, ("rollout.replay", "name"))
        if self.rollout.background:
            yield from self._background_conflicts()
        if self.contexts == "teacher" and self.reference_weight:
            message = f"reference_weight: {self.reference_weight} needs contexts: references, there are none of teacher"
            yield Conflict(message, ("reference_weight", "contexts"))

    @property
    def reads_teacher_outputs(self) -> bool:
        """Whether contexts are outputs of the teacher."""
        return self.name in OUTPUT_METHODS or self.contexts == "teacher"

    @property
    def reads_labels(self) -> bool:
        """Whether labels on disk have something that the method reads."""
        return self.reads_teacher_outputs or self.name in LABEL_METHODS

    @property
    def is_of_best_tokens(self) -> bool:
        """Whether a divergence depends on the teacher's most probable tokens and the others' mass alone."""
        return self.teacher_top_k is not None and self.temperature == 1

    def _background_conflicts(self) -> Iterator[Conflict]:
        if self.name not in ROLLOUT_METHODS:
            choices = ", ".join(sorted(ROLLOUT_METHODS))
            yield Conflict(f"rollout.background: is for {choices}, not for {self.name}", ("rollout.background", "name"))
        for field, value in (("strategy", "speculative"), ("replay", self.rollout.replay)):
            if value and getattr(self.rollout, field) == value:
                message = f"rollout.background: not with rollout.{field} {value}; leave out one of them"
                yield Conflict(message, ("rollout.background", f"rollout.{field}"))

    def _changed(self, field: str) -> bool:
        """Returns whether a field has another value than its default; a run's recipe names all fields."""
        return bool(getattr(self, field) != type(self).model_fields[field].default)
