"""Reads what the files of a model say about it, without loading the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from benchmarks.engines.base import TEACHER, EngineSpec
from benchmarks.engines.registry import engine_for
from compressor.bundle import MANIFEST_FILE, Manifest, read_manifest
from compressor.data_config import Task
from compressor.errors import ConfigError
from compressor.run_folder import is_run, read_model, read_recipe
from compressor.teachers.conversion.layout import has_marian_layout


class ModelFolder(NamedTuple):
    """What the files of a model say.

    Attributes:
        engine: Name of the engine that runs the folder unless another is chosen.
        task: Null where the files do not say.
        precisions: Precisions that it can run in.
        default: The precision that it runs in unless another is chosen.
        max_new_tokens: Longest output; null where the files do not say.
        marian: Whether it is a run in Marian's layout, which Hugging Face can run, too.
        teacher: The recipe's section of that name.
    """

    engine: str
    task: Task | None = None
    precisions: tuple[str, ...] = ("fp32",)
    default: str = "fp32"
    max_new_tokens: int | None = None
    marian: bool = False
    teacher: Mapping[str, Any] = MappingProxyType({})


def read_folder(path: str | Path) -> ModelFolder:
    """Reads the manifest of a bundle, or model and recipe of a run; anything else is taken for a checkpoint.

    Raises:
        CompressError: one of these files is damaged.
    """
    folder = Path(path)
    if (folder / MANIFEST_FILE).exists():
        return _read_bundle(read_manifest(folder))
    return _read_run(folder) if is_run(folder) else ModelFolder(engine_for("checkpoint").name)


def spec_of(path: str | Path, model: str, precision: str | None, max_new_tokens: int | None) -> EngineSpec:
    """The contender in a folder, in its default engine and, unless another is given, its default precision.

    Raises:
        ConfigError: the bundle does not have the precision.
        CompressError: one of its files is damaged.
    """
    folder = read_folder(path)
    if folder.engine == engine_for("bundle").name and precision not in (None, *folder.precisions):
        raise ConfigError(f"{path}: no precision {precision}, it has {', '.join(folder.precisions)}")
    chosen = precision or folder.default
    return EngineSpec(
        engine=folder.engine, model=model, path=str(path), precision=chosen, max_new_tokens=max_new_tokens
    )


def student_labels(paths: Sequence[Path]) -> list[str]:
    """Returns a label for each folder: its name, with as many parents as make it unique and not the teacher's."""
    for length in range(1, max((len(path.parts) for path in paths), default=0) + 1):
        labels = ["/".join(path.parts[-length:]) for path in paths]
        if len({*labels, TEACHER}) == len(labels) + 1:
            return labels
    return [str(path) for path in paths]


def _read_bundle(manifest: Manifest) -> ModelFolder:
    """Returns what the manifest of a bundle says."""
    recipe = manifest.lineage.recipe or {}
    return ModelFolder(
        engine_for("bundle").name,
        manifest.task,
        tuple(manifest.precisions),
        manifest.default_precision,
        max_new_tokens=min(manifest.generation.max_new_tokens, manifest.max_new_tokens),
        teacher=recipe.get("teacher") or {},
    )


def _read_run(folder: Path) -> ModelFolder:
    """Returns what model and recipe of a run say."""
    described = read_model(folder)
    run = ModelFolder(
        engine_for("run").name,
        max_new_tokens=described.generation.max_new_tokens,
        marian=has_marian_layout(described.model, described.generation),
    )
    recipe = read_recipe(folder)
    if recipe is None:
        return run
    return run._replace(task=recipe.task, teacher=recipe.teacher.model_dump() if recipe.teacher else {})
