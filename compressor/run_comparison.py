"""Runs side by side: what each was, cost and reached, from the files of their folders. Needs no torch."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from compressor.config import Recipe
from compressor.errors import ModelError
from compressor.recipe_files import leaves
from compressor.run_folder import CHECKPOINT_FOLDER, METRICS_FILE, RUN_FILE, read_recipe, read_record

RECENT = 20
"""Last lines of the training curve whose mean is the final loss: one update's loss is noisy."""


@dataclass(frozen=True)
class RunSummary:
    """One run. What its folder does not say is None."""

    run: str
    """The folder."""
    method: str | None
    student: str | None
    """Architecture, layers of encoder and decoder, width."""
    parameters: int | None
    updates: int | None
    target_tokens: int | None
    seconds: float | None
    """Of updates and of the teacher's outputs."""
    dev_score: float | None
    """The best one: BLEU, for summarization ROUGE-1."""
    best_update: int | None
    agreement: float | None
    """Of the last dev score."""
    final_loss: float | None
    """Mean of the last lines of the training curve."""
    target_tokens_per_second: float | None
    state: Literal["finished", "stopped early", "stopped"]
    """``stopped early`` by ``training.patience``; a run that is still going is ``stopped``, too."""
    dev_curve: tuple[tuple[int, float], ...]
    """Target tokens and score of each dev score; without those of runs that did not count tokens."""


def compare_runs(folders: Sequence[Path]) -> list[RunSummary]:
    """Returns the runs in ``folders``, each of which is a run or has runs in it, in that order.

    Raises:
        ModelError: a folder is missing, has no run, or a run in it is damaged.
        ConfigError: a run's recipe is wrong.
    """
    return [_summary(run) for folder in folders for run in _runs(folder)]


def _runs(folder: Path) -> list[Path]:
    """Returns the folder if it is a run, else the runs in it and its subfolders by name."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder")
    runs = list(_runs_in(folder))
    if not runs:
        raise ModelError(f"{folder}: neither a run nor a folder of runs (no {RUN_FILE}, no {METRICS_FILE})")
    return runs


def _runs_in(folder: Path) -> Iterator[Path]:
    if _is_begun(folder):
        yield folder
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            yield from _runs_in(path)


def _is_begun(folder: Path) -> bool:
    """Whether a folder holds a run, one without a dev score included."""
    return (folder / RUN_FILE).is_file() or (folder / METRICS_FILE).is_file()


def _summary(run: Path) -> RunSummary:
    record, recipe = read_record(run), read_recipe(run) or read_recipe(run / CHECKPOINT_FOLDER)
    lines = list(_lines(run / METRICS_FILE))
    training, dev = [line for line in lines if "loss" in line], [line for line in lines if "dev" in line]
    last = lines[-1] if lines else {}
    scores = [(line.get("target_tokens"), _selection(line["dev"])) for line in dev if "averaged" not in line]
    best = _selection(record.dev.model_dump()) if record.dev else None
    return RunSummary(
        run=str(run),
        method=_method(recipe) if recipe else None,
        student=_student(recipe) if recipe else None,
        parameters=record.parameters,
        updates=record.updates if record.finished else last.get("update"),
        target_tokens=record.target_tokens if record.finished else last.get("target_tokens"),
        seconds=record.seconds if record.finished else last.get("seconds"),
        dev_score=best,
        best_update=record.best_update,
        agreement=next((line["agreement"] for line in reversed(dev) if "agreement" in line), None),
        final_loss=statistics.fmean(line["loss"] for line in training[-RECENT:]) if training else None,
        target_tokens_per_second=record.target_tokens_per_second,
        state=("stopped early" if record.stopped_early else "finished") if record.finished else "stopped",
        dev_curve=tuple((tokens, score) for tokens, score in scores if tokens is not None and score is not None),
    )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the lines of ``metrics.jsonl``; a last line that a kill cut short is left out."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line)
        except ValueError:
            if number < len(lines):
                raise ModelError(f"{path}: line {number} is damaged") from None


def _selection(scores: dict[str, Any]) -> float | None:
    """Returns the score that selects the weights: BLEU, or ROUGE-1 where there is no BLEU."""
    score = scores.get("bleu")
    return scores.get("rouge1") if score is None else score


def _method(recipe: Recipe) -> str:
    """Returns the method's name with all fields of the recipe's section ``method`` that are not the defaults."""
    changed = recipe.method.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
    return ", ".join([recipe.method.name, *(f"{name}: {value}" for name, value in leaves(changed).items())])


def _student(recipe: Recipe) -> str:
    student = recipe.student
    return f"{student.architecture} {student.encoder_layers}+{student.decoder_layers}, {student.d_model}"
