"""Derives the contenders of a bench from its options, without loading any model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.engines.base import TEACHER, EngineSpec
from benchmarks.engines.folders import read_folder, spec_of, student_labels
from benchmarks.engines.registry import BASELINE, ENGINES, OWN, check_peers, engine_for
from benchmarks.latency.config import BenchConfig
from compressor.bundle import read_manifest
from compressor.errors import ConfigError

STUDENT = "student"
"""`EngineSpec.model` of the student where there is only one."""

TEACHER_OPTIONS = ("source_prefix", "source_language", "target_language", "revision")
"""Options of a teacher that a student's recipe has, and that the teacher's folder may lack."""


def resolve(config: BenchConfig) -> BenchConfig:
    """Returns the options with task, length limit and the teacher's options filled in from the models' files.

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


def contenders(config: BenchConfig) -> list[EngineSpec]:
    """Returns the contenders in the order of the table: teacher, runs, bundles by precision, peers.

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
    peers = check_peers(config.peers)
    specs += _peers(peers, config, runs)
    unique: dict[str, EngineSpec] = {}
    for spec in specs:  # the baseline may be among the peers, too
        unique.setdefault(spec.name, spec.model_copy(update={"device": config.device}))
    if config.device == "cuda":
        _check_gpu(peers, unique.values())
    return list(unique.values())


def _teacher(config: BenchConfig) -> list[EngineSpec]:
    """Returns the teacher, in the baseline engine if that can run it."""
    if config.teacher is None:
        return []
    spec = spec_of(config.teacher, TEACHER, "fp32", config.max_new_tokens)
    if read_folder(config.teacher).marian:
        spec = spec.model_copy(update={"engine": BASELINE.name})
    return [_with_teacher_options(spec, config)]


def _with_teacher_options(spec: EngineSpec, config: BenchConfig) -> EngineSpec:
    """Returns the contender with the teacher's options if it is a Hugging Face checkpoint."""
    if spec.engine != engine_for("checkpoint").name:
        return spec
    options = {key: getattr(config, key) for key in TEACHER_OPTIONS if getattr(config, key) is not None}
    return spec.model_copy(update=options)


def _precisions(bundle: Path, config: BenchConfig) -> Sequence[str]:
    """Returns the precisions of the options, or those of the bundle for the device. Raises BundleError."""
    names = read_manifest(bundle).precisions
    return config.precisions or [name for name in names if config.device == "cpu" or name in OWN.gpu_precisions]


def _peers(peers: Sequence[str], config: BenchConfig, runs: Sequence[tuple[str, Path]]) -> list[EngineSpec]:
    """Returns the teacher and the runs in Marian's layout, in every precision of every peer."""
    if not peers:
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
        for peer in peers
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
