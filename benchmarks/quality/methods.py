"""Scores students made with different methods on the same test sets, each beside the one that no teacher taught.

Every run is scored greedily in fp32. Its gain over Vanilla is that of the same architecture and seed (the first of that
architecture where the seed has none), with the interval of a paired bootstrap. Outputs are written once for the same
weights and sources, so that a table with one more run takes the time of that run
(``benchmarks.quality.scored_runs``).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure.result_file import Row, load, write_json
from benchmarks.quality.bootstrap import RESAMPLED, interval
from benchmarks.quality.evaluate import TestSet, parse_test_set, quality
from benchmarks.quality.scored_runs import Outputs, OutputWriter, ScoredRun, add_run, runs_in
from compressor.data_config import Task
from compressor.errors import ConfigError
from compressor.provenance import provenance
from compressor.run_folder import read_record

TEACHER_BEAMS = 5
VANILLA = "vanilla"
SCORES = {
    "translation": {"bleu": "test_bleu", "chrf": "test_chrf"},
    "summarization": {"rouge1": "test_rouge_1", "rouge2": "test_rouge_2", "rouge_l": "test_rouge_l"},
}
"""Task to the scores of a row: name in ``evaluate`` to the row's."""
HEADLINES = {"translation": "test_bleu", "summarization": "test_rouge_l"}
"""Task to the score that is resampled."""


def compare_methods(runs: Sequence[ScoredRun], tests: Sequence[TestSet], writer: OutputWriter) -> list[Row]:
    """Returns a row for each run and test set."""
    rows, headline = [], HEADLINES[writer.task]
    for test in tests:
        outputs = {one.folder: writer.of_run(one, test) for one in runs}
        scores = {folder: scores_of(writer.task, of_run) for folder, of_run in outputs.items()}
        resampled = {folder: RESAMPLED[writer.task](*of_run) for folder, of_run in outputs.items()}
        for one in runs:
            row = _described(one) | {"num_beams": 1, "test_set": test.name}
            row |= scores[one.folder] | {"ci95": interval(resampled[one.folder])}
            row |= {"delta_vs_vanilla": None, "delta_ci95": None, "teacher_agreement": writer.agreement(one, test)}
            base = _vanilla_of(one, runs)
            if base is not None and base is not one:
                row["delta_vs_vanilla"] = round(row[headline] - scores[base.folder][headline], 2)
                row["delta_ci95"] = interval(resampled[one.folder] - resampled[base.folder])
            rows.append(row)
            print(f"{row['student']} {one.method} {test.name}: {row[headline]:.2f}", file=sys.stderr)
    return rows


def score_teacher(folder: Path, tests: Sequence[TestSet], writer: OutputWriter) -> dict[str, Any]:
    """Returns the teacher's scores with beams, and its headline score in greedy search as ``greedy``."""
    scores, headline = {}, HEADLINES[writer.task]
    for test in tests:
        outputs = (writer.of_teacher(folder, test, beams) for beams in (TEACHER_BEAMS, 1))
        beam, greedy = (scores_of(writer.task, written)[headline] for written in outputs)
        scores[test.name] = {"num_beams": TEACHER_BEAMS, headline: beam, "greedy": greedy}
    return scores


def scores_of(task: Task, outputs: Outputs) -> Row:
    """Returns the scores of a row."""
    values = quality(task, *outputs)
    return {column: round(values[name], 2) for name, column in SCORES[task].items()}


def _described(one: ScoredRun) -> Row:
    """Returns what a row says of the run itself."""
    recipe, summary = one.recipe, one.summary
    return {
        "student": recipe.student.architecture,
        "method": one.method,
        "data": "references+mono" if recipe.data.mono else "references",
        "seed": recipe.training.seed,
        "parameters": summary.parameters,
        "updates": summary.updates,
        "seconds": summary.seconds,
        "dev_score": summary.dev_score,
    }


def _vanilla_of(one: ScoredRun, runs: Sequence[ScoredRun]) -> ScoredRun | None:
    """Returns the Vanilla run that a run is compared with."""
    alike = [
        other
        for other in runs
        if other.method == VANILLA and other.recipe.student.architecture == one.recipe.student.architecture
    ]
    seed = one.recipe.training.seed
    return next((other for other in alike if other.recipe.training.seed == seed), alike[0] if alike else None)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--task", required=True, metavar="NAME", help="name of the task in the result file")
    parser.add_argument("--teacher", type=Path, required=True, help="its run folder or Hugging Face folder")
    parser.add_argument(
        "--run",
        action="append",
        default=[],
        metavar="[METHOD=]FOLDER",
        help="student, beside those in --outputs; may be given several times",
    )
    parser.add_argument("--test", action="append", required=True, metavar="NAME=SOURCE,REFERENCE", help="test set")
    parser.add_argument(
        "--outputs", type=Path, required=True, help="folder of the records and outputs of all runs in the table"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, required=True, help="result file; its other tasks stay")


def run(options: argparse.Namespace) -> None:
    """Scores every run and replaces the task in the result file."""
    tests = list(map(parse_test_set, options.test))
    models = {add_run(text, options.outputs): Path(text.rpartition("=")[2]) for text in options.run}
    runs = runs_in(options.outputs, models)
    tasks = {one.recipe.task for one in runs}
    if len(tasks) != 1:
        raise ConfigError(
            "{run}: runs of one task only, these are of " + (" and of ".join(sorted(tasks)) or "none"), options=["run"]
        )
    writer = OutputWriter(tasks.pop(), options.teacher, options.threads)
    records = (read_record(one.folder).teacher for one in runs)
    parameters = next((record.parameters for record in records if record), None)
    teacher = {"parameters": parameters, "scores": score_teacher(options.outputs, tests, writer)}
    task = {"task": options.task, "teacher": teacher, "rows": compare_methods(runs, tests, writer)}
    earlier = load(options.json)["tasks"] if options.json.exists() else []
    rest = [before for before in earlier if before["task"] != options.task]
    made = {"provenance": provenance(), "tasks": [*rest, task | {"provenance": provenance()}]}
    write_json(made, options.json)
