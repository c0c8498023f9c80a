"""Options of ``compress evaluate`` and of the exposure bench, for the Python API and the command line.

Imports no engine.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from compressor.data_config import Task


class EvaluateConfig(BaseModel):
    """Options of `benchmarks.quality.evaluate.evaluate`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Path = Field(
        description="Text, a source a line, or a table (JSON lines, CSV, TSV) with a column source, and target."
    )
    reference: Path | None = Field(
        None, description="References, aligned with the sources: text, or a table with a column target."
    )
    precision: str | None = Field(None, description="Precision of a bundle; null: its default.")
    num_beams: int = Field(1, ge=1, description="Beams of the search; 1 is greedy.")
    threads: int = Field(1, ge=1, description="Processor threads.")
    batch_size: int = Field(32, ge=1, description="Sentences a call.")
    task: Task | None = Field(None, description="Task of a Hugging Face checkpoint; default: translation.")
    source_prefix: str | None = Field(None, description="Text before every source: the task, for a T5 checkpoint.")
    source_language: str | None = Field(
        None, description="Source of a multilingual checkpoint, a code of its tokenizer."
    )
    target_language: str | None = Field(
        None, description="Target of a multilingual checkpoint, a code of its tokenizer."
    )
    revision: str | None = Field(None, description="Revision of a checkpoint on the hub.")

    @property
    def checkpoint_options(self) -> dict[str, str]:
        """The options that are set and apply to Hugging Face checkpoints alone."""
        return self.model_dump(
            include={"source_prefix", "source_language", "target_language", "revision"}, exclude_none=True
        )


class ExposureConfig(BaseModel):
    """Options of `benchmarks.quality.exposure.measure`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    runs: tuple[Path, ...] = Field(min_length=1, description="Runs of students.")
    source: Path = Field(description="Text, a source a line, or a table with columns source and target.")
    reference: Path | None = Field(None, description="References, aligned with the sources.")
    teacher: str | None = Field(
        None, description="Run, Hugging Face folder or hub name; default: the teacher in each run's recipe."
    )
    examples: int | None = Field(None, ge=1, description="Lines taken from the start of the test set; default: all.")
    least_examples: int = Field(30, ge=1, description="Positions and lengths that fewer examples reach are left out.")
    length_bounds: tuple[int, ...] = Field(
        (10, 20, 30, 50), min_length=1, description="Longest references of the groups by length, in tokens."
    )
    batch_tokens: int = Field(1000, ge=1, description="Tokens scored together, padding included.")
    threads: int = Field(1, ge=1, description="Processor threads.")
