"""The options of an export: names, defaults, checks and descriptions, for the Python API and the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compressor.bundle import PRECISIONS, SHORTLIST, base_precision

DEFAULT_PRECISIONS: dict[str, tuple[str, ...]] = {"cpu": ("fp32", "int8"), "cuda": ("fp32", "fp16")}
"""What is exported unless precisions are named, by device."""

CPU_ONLY = ("int8", "mixed")
"""Precisions with matmuls that ONNX Runtime has for processors alone."""

TRANSFORMERS_PRECISIONS = ("fp32", "fp16")
"""Precisions of the weights in a Hugging Face folder; one of them is stored."""

EXPORTABLE = (*PRECISIONS, *(f"{name}{SHORTLIST}" for name in PRECISIONS if name != "fp16"))
"""Names that ``precisions`` may have."""


class ExportConfig(BaseModel):
    """Options of ``compressor.export`` and ``compress export``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["onnx", "transformers"] = Field(
        "onnx",
        description="What is written: a bundle, or a MarianMT or BART folder for transformers and CTranslate2's "
        "converter.",
    )
    precisions: tuple[str, ...] | None = Field(
        None,
        description=f"Any of {', '.join(PRECISIONS)}; each but fp16 also with {SHORTLIST} (int8{SHORTLIST}: int8 with "
        "and without a lexical shortlist); default: fp32,int8, for cuda fp32,fp16. With format transformers: fp32 "
        "(default) or fp16.",
    )
    device: Literal["cpu", "cuda"] = Field("cpu", description="Where the bundle is checked; cuda takes an NVIDIA GPU.")
    batch_size: int = Field(1, ge=1, description="Sentences a call that the precision mixed is optimised for.")
    task: Literal["translation", "summarization"] | None = Field(
        None, description="Task of a checkpoint; default: translation. A run has its own."
    )
    dev_source: Path | None = Field(
        None, description="Sources to check the export on, one a line; default: the dev set of the run's recipe."
    )
    dev_reference: Path | None = Field(None, description="Their references, to score each precision.")
    shortlist_source: Path | None = Field(
        None, description="Sources to learn a shortlist from, one a line; default: those of the run's teacher outputs."
    )
    shortlist_target: Path | None = Field(None, description="What a teacher writes for them, line by line.")
    quality_budget: float = Field(
        0.3, ge=0, description="BLEU or ROUGE-L that a precision may lose; beyond it, some layers stay in fp32."
    )
    ungated: bool = Field(
        False, description="Publish precisions whatever they lose, and without references or dev data, too."
    )

    @property
    def built_precisions(self) -> tuple[str, ...]:
        """The precisions to publish, each once; int8+shortlist includes int8."""
        return tuple(dict.fromkeys(part for name in self._asked for part in (base_precision(name), name)))

    @property
    def _asked(self) -> tuple[str, ...]:
        default = ("fp32",) if self.format == "transformers" else DEFAULT_PRECISIONS[self.device]
        return default if self.precisions is None else self.precisions

    @model_validator(mode="after")
    def _check_format(self) -> Self:
        if self.format == "onnx":
            return self
        if len(self._asked) != 1 or self._asked[0] not in TRANSFORMERS_PRECISIONS:
            raise ValueError(
                f"{{precisions}}: with {{format}} transformers give one of {', '.join(TRANSFORMERS_PRECISIONS)}, "
                f"not {', '.join(self._asked) or 'nothing'}"
            )
        useless = sorted(self.model_fields_set - {"format", "precisions", "task"})
        given = [name for name in useless if getattr(self, name) != type(self).model_fields[name].default]
        if given:
            raise ValueError(
                f"{', '.join(f'{{{name}}}' for name in given)}: for bundles, not for {{format}} transformers"
            )
        return self

    @model_validator(mode="after")
    def _check_precisions(self) -> Self:
        asked = self._asked
        unknown = [name for name in asked if name not in EXPORTABLE]
        if unknown or not asked:
            raise ValueError(
                f"{{precisions}}: give some of {', '.join(EXPORTABLE)}, not {', '.join(unknown) or 'nothing'}"
            )
        cpu_only = [name for name in asked if base_precision(name) in CPU_ONLY]
        if self.device == "cuda" and cpu_only:
            raise ValueError(
                f"{{precisions}}: {', '.join(cpu_only)} are for processors: export them with {{device}} cpu"
            )
        has_shortlist = any(name.endswith(SHORTLIST) for name in asked)
        if not has_shortlist and (self.shortlist_source or self.shortlist_target):
            raise ValueError(f"{{shortlist_source}} and {{shortlist_target}} are for a precision like int8{SHORTLIST}")
        return self
