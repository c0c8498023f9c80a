"""Implements ``compress label``: reads the recipe, writes the labels, and prints what was written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from compressor.cli.output import print_fields, print_json, readable
from compressor.config import load_recipe
from compressor.errors import ConfigError


def label(
    recipe_file: Path,
    out: Path,
    overrides: Sequence[str],
    *,
    num_hypotheses: int,
    top_k: int,
    contexts: Literal["outputs", "references"],
    engine: Literal["local", "ray"],
    force: bool,
    as_json: bool,
) -> None:
    """Writes the labels of a recipe's training sources, or what is missing of them.

    Raises:
        ConfigError: the recipe is wrong, or has no teacher.
        OutputExistsError: another process writes the folder, or it has something else than labels.
    """
    recipe = load_recipe(recipe_file, list(overrides))
    if recipe.teacher is None or recipe.teacher.labels:
        raise ConfigError(f"{recipe_file}: labels are written by a teacher: give teacher.path, and no teacher.labels")
    from compressor.distillation.label_run import label_corpus
    from compressor.exporters.label_engine import ExportedTeacher

    store = label_corpus(
        recipe,
        out,
        num_hypotheses=num_hypotheses,
        top_k=top_k,
        on_references=contexts == "references",
        force=force,
        label_engine=ExportedTeacher,
        engine=engine,
    )
    shown = {
        "folder": str(out),
        **store.run_record.model_dump(mode="json"),
        "num_hypotheses": num_hypotheses,
        "top_k": top_k,
        "contexts": contexts,
        "seconds": round(store.seconds, 1),
        "size_mb": round(sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6, 2),
    }
    if as_json:
        print_json(shown)
    else:
        print_fields(readable(shown))
