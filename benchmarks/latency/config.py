"""Options of ``compress bench``, for the Python API and the command line. Imports no engine's library."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from benchmarks.engines.registry import PEERS
from compressor.data_config import Task


class BenchConfig(BaseModel):
    """Options of `benchmarks.latency.bench.run`. At least one of ``bundles``, ``teacher`` and ``runs``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundles: tuple[Path, ...] = Field((), description="Bundles, measured in every precision of `precisions`.")
    teacher: str | None = Field(None, description="Hugging Face folder or hub name, or a run.")
    runs: tuple[Path, ...] = Field((), description="Runs of students, measured in PyTorch.")
    source: Path = Field(description="Text, a source a line, or JSON lines with source and target.")
    reference: Path | None = Field(None, description="References, aligned with the sources.")
    task: Task | None = Field(None, description="Null: as the bundle or run says.")
    precisions: tuple[str, ...] | None = Field(
        None, description="Precisions of the bundles; default: all that they have for the device."
    )
    device: Literal["cpu", "cuda"] = Field("cpu", description="Where every engine runs; cuda takes an NVIDIA GPU.")
    peers: tuple[str, ...] = Field(
        (),
        description=f"Other engines, with the weights of teacher and runs: {', '.join(PEERS)}; `all` names every one.",
    )
    batch_sizes: tuple[int, ...] = Field((1, 8, 32), min_length=1, description="Sentences a call.")
    num_beams: tuple[int, ...] = Field((1,), min_length=1, description="Numbers of beams.")
    threads: tuple[int, ...] = Field((1,), min_length=1, description="Numbers of threads inside one operator.")
    sentences: int = Field(96, ge=1, description="Number of timed sentences, spread evenly over the source.")
    repeats: int = Field(3, ge=1, description="Timed passes over these sentences.")
    warmup: int = Field(2, ge=0, description="Untimed calls of each engine before each measurement.")
    quality: bool = Field(True, description="Score the outputs of the whole source.")
    quality_batch_size: int = Field(32, ge=1, description="Sentences a call where quality is measured.")
    max_new_tokens: int | None = Field(
        None, ge=1, description="Maximum output length of all engines; default: the students'."
    )
    source_prefix: str | None = Field(None, description="Text before the teacher's sources; null: as in the recipe.")
    source_language: str | None = Field(None, description="Code for a multilingual teacher; null: as in the recipe.")
    target_language: str | None = Field(None, description="Code for a multilingual teacher; null: as in the recipe.")
    revision: str | None = Field(None, description="Revision of a teacher on the hub; null: as in the recipe.")
