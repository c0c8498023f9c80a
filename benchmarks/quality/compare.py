"""Scores teacher and students on the same dev and test sets: the ``quality`` list of a result file.

The teacher is scored with 1 and 5 beams, every run greedily in fp32, and the bundle in int8. The file keeps its other
keys (the rows of ``compress bench``).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measure.result_file import Row, write_json
from benchmarks.quality.config import EvaluateConfig
from benchmarks.quality.evaluate import TestSet, evaluate, parse_test_set
from compressor.config import Recipe
from compressor.data.corpus import load_corpus
from compressor.errors import ModelError
from compressor.files import write_atomic
from compressor.provenance import provenance
from compressor.run_folder import RECIPE_FILE, RUN_FILE, read_recipe, read_record

TEACHER_BEAMS = (1, 5)


class ScoredModel(NamedTuple):
    """A model and how it is scored, with what its training took (null for the teacher)."""

    path: str
    method: str
    precision: str
    num_beams: int
    data: str | None = None
    updates: int | None = None
    seconds: float | None = None
    seed: int | None = None


def compare(models: Sequence[ScoredModel], dev: Path, tests: Sequence[TestSet], threads: int) -> list[Row]:
    """Scores every model on the dev sets and on every test set; returns a row for each model and test set.

    Args:
        models: The models.
        dev: JSON lines of all dev sets, one after the other.
        tests: Test sets; each model is scored once on each.
        threads: Processor threads.

    Returns:
        Rows with the keys ``method, data, parameters, updates, seconds, seed, num_beams, precision, test_set,
        dev_bleu, test_bleu, test_chrf, signature``.
    """
    rows = []
    for one in models:
        dev_bleu = _score(one, TestSet("dev", dev, None), threads)["bleu"]
        for test in tests:
            scores = _score(one, test, threads)
            cost = {"method": one.method, "data": one.data, "parameters": scores["parameters"], "updates": one.updates}
            search = {"num_beams": one.num_beams, "precision": one.precision, "test_set": test.name}
            measured = {"test_bleu": scores["bleu"], "test_chrf": scores["chrf"], "signature": scores["signature"]}
            rows.append({**cost, "seconds": one.seconds, "seed": one.seed, **search, "dev_bleu": dev_bleu, **measured})
            print(f"{one.method} {one.precision} {one.num_beams} {test.name}: {scores['bleu']:.2f}", file=sys.stderr)
    return rows


def _score(one: ScoredModel, test: TestSet, threads: int) -> dict[str, Any]:
    """Returns the scores of a model on a test set."""
    config = EvaluateConfig(
        source=test.source,
        reference=test.reference,
        precision=one.precision,
        num_beams=one.num_beams,
        threads=threads,
        task="translation",
    )
    return evaluate(one.path, config).scores


def of_run(folder: Path) -> ScoredModel:
    """Returns a run, scored greedily in fp32, with the cost of its training.

    Raises:
        ModelError: the folder has no recipe or no record, or the record is damaged.
        ConfigError: the recipe is wrong.
    """
    recipe, record = _recipe_of(folder), read_record(folder)
    if not (folder / RUN_FILE).is_file():
        raise ModelError(f"{folder}: not a run folder ({RUN_FILE} is missing)")
    data = "references+mono" if recipe.data.mono else "references"
    return ScoredModel(
        str(folder), recipe.method.name, "fp32", 1, data, record.updates, record.seconds, recipe.training.seed
    )


def of_teacher(path: str) -> Iterator[ScoredModel]:
    """Yields the teacher, scored greedily and with beams."""
    for beams in TEACHER_BEAMS:
        yield ScoredModel(path, "teacher", "fp32", beams)


def _recipe_of(folder: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Returns the recipe of a run. Raises ModelError if there is none, ConfigError if it is wrong."""
    recipe = read_recipe(folder, overrides)
    if recipe is None:
        raise ModelError(f"{folder}: not a run folder ({RECIPE_FILE} is missing)")
    return recipe


def write_dev(recipe: Recipe, path: Path) -> Path:
    """Writes all dev sets of a recipe as JSON lines, and returns the path."""
    lines = (json.dumps(example._asdict(), ensure_ascii=False) for example in load_corpus(recipe.data, "dev").examples)
    write_atomic(path, "".join(f"{line}\n" for line in lines))
    return path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--teacher", required=True, help="Hugging Face folder, or run folder")
    parser.add_argument("--run", type=Path, action="append", required=True, help="student; may be given several times")
    parser.add_argument("--bundle", type=Path, help="scored in int8; made from the last --run")
    parser.add_argument("--test", action="append", required=True, metavar="NAME=SOURCE,REFERENCE", help="test set")
    parser.add_argument("--data-root", help="folder of the dev sets of the last run's recipe")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, required=True, help="result file; its other keys are kept")


def run(options: argparse.Namespace) -> None:
    """Scores every model and writes the list into the result file."""
    overrides = [f"data.root={options.data_root}"] if options.data_root else []
    recipe, tests = _recipe_of(options.run[-1], overrides), list(map(parse_test_set, options.test))
    models = [*of_teacher(options.teacher), *map(of_run, options.run)]
    if options.bundle:
        models.append(models[-1]._replace(path=str(options.bundle), precision="int8"))
    with tempfile.TemporaryDirectory() as folder:
        scores = compare(models, write_dev(recipe, Path(folder) / "dev.jsonl"), tests, options.threads)
    table = json.loads(options.json.read_text(encoding="utf-8")) if options.json.exists() else {}
    write_json(
        {"provenance": provenance(), **table, "quality": scores, "quality_provenance": provenance()}, options.json
    )
