"""The options of a bench, and the contenders that follow from them, without loading any model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from benchmarks.engines.base import TEACHER, EngineSpec
from benchmarks.engines.folders import Task, read_folder, spec_of
from benchmarks.engines.registry import BASELINE, ENGINES, OWN, check_peers, engine_for
from compressor.bundle import read_manifest
from compressor.errors import ConfigError

STUDENT = "student"
"""`EngineSpec.model` of the student where there is one."""

TEACHER_OPTIONS = ("source_prefix", "source_language", "target_language", "revision")
"""Fields that a recipe knows of its teacher, and the teacher's folder may not."""


class BenchConfig(BaseModel):
    """Options of `benchmarks.latency.bench.run`. At least one of ``bundles``, ``teacher`` and ``runs``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundles: tuple[Path, ...] = Field((), description="Students in ONNX, in every precision of `precisions`.")
    teacher: str | None = Field(None, description="Hugging Face folder or hub name, or a run folder.")
    runs: tuple[Path, ...] = Field((), description="Students in PyTorch.")
    source: Path = Field(description="Plain text, or JSON lines with source and target.")
    reference: Path | None = Field(None, description="Plain text aligned with `source`.")
    task: Task | None = Field(None, description="Null: as the bundle or run says.")
    precisions: tuple[str, ...] | None = Field(
        None, description="Precisions of the bundles; null: all they have for the device."
    )
    device: Literal["cpu", "cuda"] = Field("cpu", description="Where every engine runs.")
    peers: tuple[str, ...] = Field((), description="Other engines, with the weights of `teacher` and `runs`.")
    batch_sizes: tuple[int, ...] = Field((1, 8, 32), min_length=1, description="Sentences a call.")
    num_beams: tuple[int, ...] = Field((1,), min_length=1, description="Widths of the search.")
    threads: tuple[int, ...] = Field((1,), min_length=1, description="Threads inside one operator.")
    sentences: int = Field(96, ge=1, description="Sentences that are timed, spread evenly over the source.")
    repeats: int = Field(3, ge=1, description="Timed passes over them.")
    warmup: int = Field(2, ge=0, description="Calls of each engine in each cell that are not counted.")
    quality: bool = Field(True, description="Score the whole source; false: quality is null.")
    quality_batch_size: int = Field(32, ge=1, description="Sentences a call where quality is measured.")
    max_new_tokens: int | None = Field(None, ge=1, description="Length limit of all engines; null: the students'.")
    source_prefix: str | None = Field(None, description="Text before the teacher's sources; null: as in the recipe.")
    source_language: str | None = Field(None, description="Code for a multilingual teacher; null: as in the recipe.")
    target_language: str | None = Field(None, description="Code for a multilingual teacher; null: as in the recipe.")
    revision: str | None = Field(None, description="Revision of a teacher on the hub; null: as in the recipe.")


def resolve(config: BenchConfig) -> BenchConfig:
    """The options with what the models' files say filled in: task, length limit, and the teacher's options.

    Raises:
        ConfigError: there is nothing to measure.
        CompressError: a file of a bundle or run is damaged.
    """
    students = [read_folder(path) for path in (*config.bundles, *config.runs)]
    folders = [*students, read_folder(config.teacher)] if config.teacher else students
    if not folders:
        raise ConfigError("nothing to measure: give a bundle, {run} or {teacher}", options=["run", "teacher"])
    limits = [folder.max_new_tokens for folder in students if folder.max_new_tokens]
    values: dict[str, Any] = {
        "task": next((folder.task for folder in folders if folder.task), "translation"),
        "max_new_tokens": min(limits, default=None),
    }
    for folder in students[::-1]:
        values |= {key: folder.teacher[key] for key in TEACHER_OPTIONS if folder.teacher.get(key) is not None}
    return config.model_copy(update={key: value for key, value in values.items() if getattr(config, key) is None})


def student_labels(paths: Sequence[Path]) -> list[str]:
    """A label for each folder: its name, with as many parents as tell it from the others and from the teacher."""
    for length in range(1, max((len(path.parts) for path in paths), default=0) + 1):
        labels = ["/".join(path.parts[-length:]) for path in paths]
        if len({*labels, TEACHER}) == len(labels) + 1:
            return labels
    return [str(path) for path in paths]


def contenders(config: BenchConfig) -> list[EngineSpec]:
    """The contenders in the order of the table: teacher, students in PyTorch, in ONNX by precision, in the peers.

    One student, as a bundle or a run or both, is labelled `STUDENT`; several have labels of their folders.

    Raises:
        ConfigError: the options do not fit together.
        CompressError: a file of a bundle or run is damaged.
    """
    several = max(len(config.bundles), len(config.runs)) > 1
    labels = student_labels([*config.runs, *config.bundles]) if several else []
    labels = labels or [STUDENT] * (len(config.runs) + len(config.bundles))
    runs = list(zip(labels, config.runs, strict=False))
    bundles = list(zip(labels[len(runs) :], config.bundles, strict=True))
    specs = [*_teacher(config)]
    specs += [spec_of(path, label, "fp32", config.max_new_tokens) for label, path in runs]
    specs += [
        spec_of(path, label, precision, config.max_new_tokens)
        for label, path in bundles
        for precision in _precisions(path, config)
    ]
    specs += _peers(config, runs)
    unique: dict[str, EngineSpec] = {}
    for spec in specs:  # the baseline may be among the peers, too
        unique.setdefault(spec.name, spec.model_copy(update={"device": config.device}))
    if config.device == "cuda":
        _check_gpu(config.peers, unique.values())
    return list(unique.values())


def _teacher(config: BenchConfig) -> list[EngineSpec]:
    """The teacher, in the baseline engine where that can run it."""
    if config.teacher is None:
        return []
    spec = spec_of(config.teacher, TEACHER, "fp32", config.max_new_tokens)
    if read_folder(config.teacher).marian:
        spec = spec.model_copy(update={"engine": BASELINE.name})
    return [_with_teacher_options(spec, config)]


def _with_teacher_options(spec: EngineSpec, config: BenchConfig) -> EngineSpec:
    if spec.engine != engine_for("checkpoint").name:
        return spec
    options = {key: getattr(config, key) for key in TEACHER_OPTIONS if getattr(config, key) is not None}
    return spec.model_copy(update=options)


def _precisions(bundle: Path, config: BenchConfig) -> Sequence[str]:
    """The precisions asked for, or those of a bundle that are for the device. Raises BundleError if it is none."""
    names = read_manifest(bundle).precisions
    return config.precisions or [name for name in names if config.device == "cpu" or name in OWN.gpu_precisions]


def _peers(config: BenchConfig, runs: Sequence[tuple[str, Path]]) -> list[EngineSpec]:
    """The weights of the teacher, and of runs in Marian's layout, in every peer and each of its precisions."""
    if not config.peers:
        return []
    run_engine = engine_for("run").name
    folders = [(TEACHER, config.teacher)] if config.teacher is not None else []
    for label, path in runs:
        folder = read_folder(path)
        if folder.marian or folder.engine != run_engine:
            folders.append((label, str(path)))
    if not folders:
        raise ConfigError(
            "{peers}: give {teacher} or {run}, whose weights they are to run; a run in Marian's layout",
            options=["peers", "teacher", "run"],
        )
    specs = [
        EngineSpec(engine=peer, model=label, path=path, precision=precision, max_new_tokens=config.max_new_tokens)
        for peer in check_peers(config.peers)
        for label, path in folders
        for precision in ENGINES[peer].on_device(config.device)
    ]
    return [_with_teacher_options(spec, config) if spec.model == TEACHER else spec for spec in specs]


def _check_gpu(peers: Sequence[str], specs: Iterable[EngineSpec]) -> None:
    """Raises ConfigError naming everything that cannot be measured on a GPU."""
    wrong = [peer for peer in peers if not ENGINES[peer].gpu_precisions]
    wrong += [spec.name for spec in specs if spec.precision not in ENGINES[spec.engine].gpu_precisions]
    if wrong:
        message = f"device cuda: {', '.join(wrong)}: for processors; leave them out, or take {{device}}"
        raise ConfigError(message, options={"device": "cpu"})
