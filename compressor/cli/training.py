"""Implements ``compress distill`` and ``compress train``: reads the recipe, then estimates or runs it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from compressor.cli.folders import describe
from compressor.cli.output import print_fields, print_json, readable
from compressor.config import Recipe, dump_recipe, load_recipe
from compressor.errors import ConfigError

if TYPE_CHECKING:
    from compressor.distillation.label_engines import OpenLabelEngine


def make(
    command: Literal["distill", "train"],
    recipe_file: Path,
    out: Path | None,
    overrides: Sequence[str],
    *,
    resume: bool,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Runs a recipe, or prints its estimate.

    Raises:
        ConfigError: the recipe is wrong, or options do not fit together.
    """
    recipe = load_recipe(recipe_file, list(overrides), without_teacher=command == "train")
    if command == "distill" and recipe.teacher is None:
        raise ConfigError(f"{recipe_file}: has no teacher; `compress train` makes a model from references alone")
    if dry_run:
        _show_plan(recipe, as_json)
        return
    if out is None:
        raise ConfigError("--out is missing: name the folder of the run")
    from compressor.distillation.run import distill

    distill(recipe, out, resume=resume, force=force, label_engine=_label_engine(recipe))
    if os.environ.get("RANK", "0") != "0":  # only one of the processes of torchrun prints
        return
    fields = describe(out)
    if as_json:
        print_json(fields)
    else:
        print_fields(readable(fields))


def _label_engine(recipe: Recipe) -> OpenLabelEngine | None:
    """Returns what exports a teacher; None where there is no teacher."""
    if recipe.teacher is None:
        return None
    from compressor.exporters.label_engine import ExportedTeacher

    return ExportedTeacher


def _show_plan(recipe: Recipe, as_json: bool) -> None:
    """Prints the whole recipe, and the estimate of sizes, time and memory."""
    from compressor.distillation.estimate import estimate

    plan = estimate(recipe, _label_engine(recipe))
    if as_json:
        print_json({"recipe": recipe.model_dump(mode="json"), "estimate": plan})
    else:
        print(dump_recipe(recipe))
        print_fields(readable(plan))
