"""The recipe's ``teacher`` section: the model that the student learns from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, field_validator

from compressor.model_config import Conflict, Section

LabelEngineName = Literal["onnx", "torch"]


class TeacherConfig(Section):
    """The model that the student learns from."""

    path: str = Field("", description="Run folder, Hugging Face folder, or hub name; may be left out with `labels`.")
    labels: str | None = Field(
        None,
        description="Folder written by `compress label` with this recipe's data and teacher. The teacher's outputs are "
        "read there, and with `teacher_top_k` its distributions; where the method reads nothing else, no teacher is in "
        "memory. null: outputs are written to the run.",
    )
    revision: str | None = Field(None, description="Revision on the hub.")
    source_prefix: str = Field("", description="Text before every source: a T5 task prefix, or a >>lang<< token.")
    source_language: str | None = Field(None, description="Language code of the source, for mBART, M2M100 and NLLB.")
    target_language: str | None = Field(None, description="Language code of the target, for mBART, M2M100 and NLLB.")
    num_beams: int = Field(
        5,
        ge=1,
        description="Beams of the outputs that SeqKD, ImitKD*, seqinter and mbr learn from; "
        "the latter two choose among as many.",
    )
    label_engine: Literal["auto", "onnx", "torch"] = Field(
        "auto",
        description="What writes these outputs: the teacher in PyTorch (torch), or exported to int8, which is several "
        "times as fast on a processor (onnx; checked against PyTorch on 200 sources); auto: onnx for many outputs.",
    )
    length_penalty: float | None = Field(None, description="Overrides the teacher's generation configuration.")
    max_new_tokens: int | None = Field(None, ge=1, description="Overrides the teacher's generation configuration.")
    no_repeat_ngram_size: int | None = Field(
        None, ge=0, description="Overrides the teacher's generation configuration."
    )

    @field_validator("path", mode="before")
    @classmethod
    def _allow_null(cls, value: object) -> object:
        return "" if value is None else value  # `--set teacher.path=` takes a path away

    def conflicts(self) -> Iterator[Conflict]:
        """See Section."""
        if not self.path and not self.labels:
            yield Conflict("path: needed, or labels", ("path", "labels"))
        if self.labels and self.label_engine != "auto":
            message = f"label_engine: {self.label_engine} has nothing to write, the outputs are in labels; leave it out"
            yield Conflict(message, ("labels", "label_engine"))
