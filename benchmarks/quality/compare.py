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

from benchmarks.measure.result_file import write_json
from benchmarks.quality.evaluate import evaluate
from compressor.config import Recipe, load_recipe
from compressor.data.corpus import load_corpus
from compressor.errors import ConfigError
from compressor.files import write_atomic
from compressor.provenance import provenance

TEACHER_BEAMS = (1, 5)


class TestSet(NamedTuple):
    """Aligned files with a name."""

    name: str
    source: Path
    reference: Path | None


class Contender(NamedTuple):
    """A model and how it is scored, with what its training took (null for the teacher)."""

    path: str
    method: str
    precision: str
    num_beams: int
    data: str | None = None
    updates: int | None = None
    seconds: float | None = None
    seed: int | None = None


def compare(contenders: Sequence[Contender], dev: Path, tests: Sequence[TestSet], threads: int) -> list[dict[str, Any]]:
    """One row a contender and test set.

    Args:
        contenders: The models.
        dev: JSON lines of all dev sets, one after the other.
        tests: Test sets; each contender is scored once on each.
        threads: Processor threads.

    Returns:
        Rows with the keys ``method, data, parameters, updates, seconds, seed, num_beams, precision, test_set,
        dev_bleu, test_bleu, test_chrf, signature``.
    """
    rows = []
    for one in contenders:
        dev_bleu = _score(one, TestSet("dev", dev, None), threads)["bleu"]
        for test in tests:
            scores = _score(one, test, threads)
            cost = {"method": one.method, "data": one.data, "parameters": scores["parameters"], "updates": one.updates}
            search = {"num_beams": one.num_beams, "precision": one.precision, "test_set": test.name}
            measured = {"test_bleu": scores["bleu"], "test_chrf": scores["chrf"], "signature": scores["signature"]}
            rows.append({**cost, "seconds": one.seconds, "seed": one.seed, **search, "dev_bleu": dev_bleu, **measured})
            print(f"{one.method} {one.precision} {one.num_beams} {test.name}: {scores['bleu']:.2f}", file=sys.stderr)
    return rows


def _score(one: Contender, test: TestSet, threads: int) -> dict[str, Any]:
    return evaluate(
        one.path,
        source=test.source,
        reference=test.reference,
        precision=one.precision,
        num_beams=one.num_beams,
        threads=threads,
        task="translation",
    ).scores


def of_run(folder: Path) -> Contender:
    """A run, scored greedily in fp32, with the cost of its training. Raises ConfigError if ``run.json`` is missing."""
    recipe, info = load_recipe(folder / "recipe.yaml"), _record(folder)
    data = "references+mono" if recipe.data.mono else "references"
    return Contender(
        str(folder), recipe.method.name, "fp32", 1, data, info["updates"], info["seconds"], recipe.training.seed
    )


def teachers(path: str) -> Iterator[Contender]:
    """The teacher, scored greedily and with beams."""
    for beams in TEACHER_BEAMS:
        yield Contender(path, "teacher", "fp32", beams)


def write_dev(recipe: Recipe, path: Path) -> Path:
    """Writes all dev sets of a recipe as JSON lines, and returns the path."""
    lines = (json.dumps(example._asdict(), ensure_ascii=False) for example in load_corpus(recipe.data, "dev").examples)
    write_atomic(path, "".join(f"{line}\n" for line in lines))
    return path


def _record(folder: Path) -> dict[str, Any]:
    try:
        info: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ConfigError(f"{folder}: not a run folder (run.json is missing or damaged)") from None
    return info


def _test_set(text: str) -> TestSet:
    name, _, files = text.partition("=")
    source, _, reference = files.partition(",")
    if not source:
        raise ConfigError(f"{{test}} {text}: write NAME=SOURCE,REFERENCE", options=["test"])
    return TestSet(name, Path(source), Path(reference) if reference else None)


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
    """Scores every contender and writes the list into the result file."""
    overrides = [f"data.root={options.data_root}"] if options.data_root else []
    recipe, tests = load_recipe(options.run[-1] / "recipe.yaml", overrides), list(map(_test_set, options.test))
    contenders = [*teachers(options.teacher), *map(of_run, options.run)]
    if options.bundle:
        contenders.append(contenders[-1]._replace(path=str(options.bundle), precision="int8"))
    with tempfile.TemporaryDirectory() as folder:
        scores = compare(contenders, write_dev(recipe, Path(folder) / "dev.jsonl"), tests, options.threads)
    table = json.loads(options.json.read_text(encoding="utf-8")) if options.json.exists() else {}
    write_json(
        {"provenance": provenance(), **table, "quality": scores, "quality_provenance": provenance()}, options.json
    )
