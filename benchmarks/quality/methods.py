"""Scores students made with different methods on the same test sets, each beside the one that no teacher taught.

Every run is scored greedily in fp32. Its gain over Vanilla is that of the same architecture and seed (the first of that
architecture where the seed has none), with the interval of a paired bootstrap. Outputs are written once for the same
weights and sources, so that a table with one more run takes the time of that run.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measure.result_file import Row, load, write_json
from benchmarks.quality.bootstrap import RESAMPLED, interval
from benchmarks.quality.config import EvaluateConfig
from benchmarks.quality.evaluate import TestSet, evaluate, parse_test_set, quality, read_test_set
from compressor.config import Recipe
from compressor.data_config import Task
from compressor.errors import ConfigError, ModelError
from compressor.files import write_atomic
from compressor.provenance import provenance
from compressor.run_comparison import RunSummary, compare_runs
from compressor.run_folder import RECIPE_FILE, TOKENIZER_FOLDER, read_recipe, read_record

TEACHER_BEAMS = 5
VANILLA = "vanilla"
SCORES = {
    "translation": {"bleu": "test_bleu", "chrf": "test_chrf"},
    "summarization": {"rouge1": "test_rouge_1", "rouge2": "test_rouge_2", "rouge_l": "test_rouge_l"},
}
"""Task to the scores of a row: name in ``evaluate`` to the row's."""
HEADLINES = {"translation": "test_bleu", "summarization": "test_rouge_l"}
"""Task to the score that is resampled."""


class ScoredRun(NamedTuple):
    """A run in the comparison."""

    folder: Path
    method: str
    recipe: Recipe
    summary: RunSummary


class Outputs(NamedTuple):
    """What a run wrote for a test set, and the references."""

    texts: list[str]
    references: list[str]


class Scorer:
    """Writes the outputs of models for test sets into a folder, and reads those that are there."""

    def __init__(self, task: Task, outputs: Path, threads: int) -> None:
        self.task, self.folder, self.threads = task, outputs, threads

    def outputs(self, model: Path, test: TestSet, num_beams: int) -> Outputs:
        """Returns a model's outputs. Raises CompressError where a model or file is missing or damaged."""
        sources, references = read_test_set(test.source, test.reference)
        path = self.folder / f"{model.name}-{test.name}-{num_beams}-{_digest(model, sources)}.txt"
        if not path.is_file():
            config = EvaluateConfig(
                source=test.source,
                reference=test.reference,
                num_beams=num_beams,
                threads=self.threads,
                task=self.task,
            )
            texts = evaluate(model, config).hypotheses
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(path, "".join(" ".join(text.split()) + "\n" for text in texts))
        return Outputs(path.read_text(encoding="utf-8").split("\n")[:-1], references)

    def scores(self, outputs: Outputs) -> Row:
        """Returns the scores of a row."""
        values = quality(self.task, *outputs)
        return {column: round(values[name], 2) for name, column in SCORES[self.task].items()}


def compare_methods(runs: Sequence[ScoredRun], tests: Sequence[TestSet], scorer: Scorer) -> list[Row]:
    """Returns a row for each run and test set."""
    rows, headline = [], HEADLINES[scorer.task]
    for test in tests:
        outputs = {one.folder: scorer.outputs(one.folder, test, num_beams=1) for one in runs}
        scores = {folder: scorer.scores(of_run) for folder, of_run in outputs.items()}
        resampled = {folder: RESAMPLED[scorer.task](*of_run) for folder, of_run in outputs.items()}
        for one in runs:
            row = _described(one) | {"num_beams": 1, "test_set": test.name}
            row |= scores[one.folder] | {"ci95": interval(resampled[one.folder])}
            row |= {"delta_vs_vanilla": None, "delta_ci95": None, "teacher_agreement": one.summary.agreement}
            base = _vanilla_of(one, runs)
            if base is not None and base is not one:
                row["delta_vs_vanilla"] = round(row[headline] - scores[base.folder][headline], 2)
                row["delta_ci95"] = interval(resampled[one.folder] - resampled[base.folder])
            rows.append(row)
            print(f"{row['student']} {one.method} {test.name}: {row[headline]:.2f}", file=sys.stderr)
    return rows


def score_teacher(path: Path, tests: Sequence[TestSet], scorer: Scorer) -> dict[str, Any]:
    """Returns the teacher's scores with beams, and its headline score in greedy search as ``greedy``."""
    scores, headline = {}, HEADLINES[scorer.task]
    for test in tests:
        beam, greedy = (scorer.scores(scorer.outputs(path, test, beams))[headline] for beams in (TEACHER_BEAMS, 1))
        scores[test.name] = {"num_beams": TEACHER_BEAMS, headline: beam, "greedy": greedy}
    return scores


def read_run(text: str) -> ScoredRun:
    """Returns a run of an option ``FOLDER`` or ``METHOD=FOLDER``.

    Raises:
        ModelError: the folder is no finished run with a recipe.
        ConfigError: its recipe is wrong.
    """
    label, _, path = text.rpartition("=")
    folder = Path(path)
    recipe = read_recipe(folder)
    if recipe is None:
        raise ModelError(f"{folder}: not a run folder ({RECIPE_FILE} is missing)")
    (summary,) = compare_runs([folder])
    if summary.state == "stopped":
        raise ModelError(f"{folder}: the run has not come to its end; go on with --resume")
    return ScoredRun(folder, label or method_of(recipe), recipe, summary)


def method_of(recipe: Recipe) -> str:
    """Returns the method's name in a table: ImitKD* has its asterisk, and settings beside the paper's are named."""
    method = recipe.method
    name = method.name.replace("imitkd", "imitkd*") if method.contexts == "teacher" else method.name
    plain = type(method)(name=method.name)
    changes = [
        f"{field} {value}" if not isinstance(value, str) else value
        for field in ("divergence", "temperature", "teacher_top_k", "reference_weight", "mbr_hypotheses")
        if (value := getattr(method, field)) != getattr(plain, field)
    ]
    if method.rollout.strategy == "speculative":
        changes.append("speculative")
    if method.rollout.replay:
        changes.append(f"replay {method.rollout.replay}")
    return ", ".join([name, *changes])


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


def _digest(model: Path, sources: Sequence[str]) -> str:
    """Names outputs by all that they depend on: weights, rules of the search, tokenizer, and the sources."""
    digest = hashlib.sha256("\n".join(sources).encode())
    rules = (model / name for name in ("model.json", "config.json", "generation_config.json", "vocab.json"))
    tokenizer = (*model.glob("*.spm"), *(model / TOKENIZER_FOLDER).glob("*"))
    for path in (*_weights(model), *filter(Path.is_file, (*rules, *sorted(tokenizer)))):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


def _weights(model: Path) -> Iterator[Path]:
    files = sorted(model.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{model}: no weights in it (*.safetensors)")
    yield from files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--task", required=True, metavar="NAME", help="name of the task in the result file")
    parser.add_argument("--teacher", type=Path, required=True, help="its run folder or Hugging Face folder")
    parser.add_argument(
        "--run", action="append", required=True, metavar="[METHOD=]FOLDER", help="student; may be given several times"
    )
    parser.add_argument("--test", action="append", required=True, metavar="NAME=SOURCE,REFERENCE", help="test set")
    parser.add_argument("--outputs", type=Path, required=True, help="folder of the outputs, which are written once")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, required=True, help="result file; its other tasks stay")


def run(options: argparse.Namespace) -> None:
    """Scores every run and replaces the task in the result file."""
    runs, tests = list(map(read_run, options.run)), list(map(parse_test_set, options.test))
    tasks = {one.recipe.task for one in runs}
    if len(tasks) > 1:
        raise ConfigError(
            "{run}: runs of one task only, these are of translation and of summarization", options=["run"]
        )
    scorer = Scorer(tasks.pop(), options.outputs, options.threads)
    records = (read_record(one.folder).teacher for one in runs)
    parameters = next((record.parameters for record in records if record), None)
    teacher = {"parameters": parameters, "scores": score_teacher(options.teacher, tests, scorer)}
    task = {"task": options.task, "teacher": teacher, "rows": compare_methods(runs, tests, scorer)}
    earlier = load(options.json)["tasks"] if options.json.exists() else []
    rest = [before for before in earlier if before["task"] != options.task]
    made = {"provenance": provenance(), "tasks": [*rest, task | {"provenance": provenance()}]}
    write_json(made, options.json)
