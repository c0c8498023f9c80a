"""Runs in a comparison of methods, and the folder with all that a table needs of them.

::

    transformer-vanilla-1/       student, method, seed
        recipe.yaml run.json metrics.jsonl    as in the run folder; of the curve, the dev scores and the last losses
        outputs.json                          `Written`, with the agreement with the teacher
        tatoeba-1.txt.gz                      outputs for a test set, by its name and the number of beams
    teacher/                     outputs.json and outputs

Such a folder is small enough to be published, and a table gains rows without the weights of the runs that are in it.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import BaseModel, ValidationError

from benchmarks.quality.agreement import teacher_agreement
from benchmarks.quality.config import EvaluateConfig
from benchmarks.quality.evaluate import TestSet, evaluate, read_test_set
from compressor.config import Recipe, dump_recipe
from compressor.data.lines import first_line
from compressor.data_config import Task
from compressor.errors import DataError, ModelError
from compressor.files import write_atomic
from compressor.method_table import METHODS
from compressor.provenance import sanitize
from compressor.run_comparison import RECENT, RunSummary, compare_runs
from compressor.run_folder import METRICS_FILE, RECIPE_FILE, RUN_FILE, TOKENIZER_FOLDER, read_recipe
from compressor.teacher_config import TeacherConfig
from compressor.teachers.base import Teacher
from compressor.teachers.registry import load_teacher

OUTPUTS_FILE = "outputs.json"
TEACHER_FOLDER = "teacher"


class Written(BaseModel):
    """Content of ``outputs.json``."""

    method: str
    """Name in the table."""
    model: str
    """Digest of weights, rules of the search and tokenizer."""
    sources: dict[str, str] = {}
    """Name of the outputs to the digest of their sources."""
    agreement: dict[str, float | None] = {}
    """Name of the outputs, with the first digits of their sources' and of the teacher's digest, to the agreement."""


class ScoredRun(NamedTuple):
    """A run in the comparison."""

    folder: Path
    """Where its record and outputs are."""
    model: Path | None
    """Its weights; None if the outputs alone are there."""
    method: str
    recipe: Recipe
    summary: RunSummary


class Outputs(NamedTuple):
    """What a model wrote for a test set, and the references."""

    texts: list[str]
    references: list[str]


def add_run(text: str, folder: Path) -> Path:
    """Copies the record of a run into its own folder in ``folder``, which is returned.

    Args:
        text: ``FOLDER`` or ``METHOD=FOLDER``: a run, with the name of its method in the table.
        folder: Of all runs.

    Raises:
        ModelError: the folder is no finished run with a recipe, or has no weights.
        ConfigError: its recipe is wrong.
    """
    label, _, path = text.rpartition("=")
    run = Path(path)
    recipe = read_recipe(run)
    if recipe is None:
        raise ModelError(f"{run}: not a run folder ({RECIPE_FILE} is missing)")
    (summary,) = compare_runs([run])
    if summary.state == "stopped":
        raise ModelError(f"{run}: the run has not come to its end; go on with --resume")
    method = label or method_of(recipe)
    place = folder / _place(recipe, method)
    _begin(place, method, run)
    write_atomic(place / RECIPE_FILE, sanitize(dump_recipe(recipe)))
    write_atomic(place / RUN_FILE, (run / RUN_FILE).read_bytes())
    if (run / METRICS_FILE).is_file():
        lines = (run / METRICS_FILE).read_text(encoding="utf-8").splitlines(keepends=True)
        recent = len(lines) - RECENT
        chosen = [line for number, line in enumerate(lines) if number >= recent or '"dev"' in line]
        write_atomic(place / METRICS_FILE, "".join(chosen))
    return place


def runs_in(folder: Path, models: dict[Path, Path]) -> list[ScoredRun]:
    """Returns the runs in ``folder``: Transformers first, of each architecture in the order of the method table.

    Args:
        folder: Of all runs.
        models: Places of runs to the folders of their weights.
    """
    runs = []
    for place in sorted(path.parent for path in folder.glob(f"*/{RUN_FILE}")):
        recipe, (summary,) = read_recipe(place), compare_runs([place])
        if recipe is None:
            raise ModelError(f"{place}: {RECIPE_FILE} is missing; name the run with --run again")
        runs.append(ScoredRun(place, models.get(place), _written(place).method, recipe, summary))
    return sorted(runs, key=_rank)


def _rank(run: ScoredRun) -> tuple[bool, str, int, str]:
    architecture, method = run.recipe.student.architecture, run.recipe.method.name
    return architecture != "transformer", architecture, [*METHODS].index(method), run.folder.name


class OutputWriter:
    """Writes the outputs of models for test sets, and reads those that are there.

    Args:
        task: What the models do.
        teacher: Folder of the teacher.
        threads: Processor threads.
    """

    def __init__(self, task: Task, teacher: Path, threads: int) -> None:
        self.task, self._teacher, self.threads = task, teacher, threads

    def of_run(self, run: ScoredRun, test: TestSet) -> Outputs:
        """Returns greedy outputs. Raises CompressError where a model or file is missing or damaged."""
        return self._outputs(run.folder, run.model, test, 1)

    def of_teacher(self, folder: Path, test: TestSet, num_beams: int) -> Outputs:
        """Returns the teacher's outputs. Raises CompressError where a model or file is missing or damaged."""
        place = folder / TEACHER_FOLDER
        _begin(place, "teacher", self._teacher)
        return self._outputs(place, self._teacher, test, num_beams)

    def agreement(self, run: ScoredRun, test: TestSet) -> float | None:
        """Returns the agreement of a run's outputs with the teacher. Raises as ``of_run`` does."""
        outputs = self.of_run(run, test)
        written = _written(run.folder)
        name = f"{test.name}-1 {written.sources[f'{test.name}-1'][:12]} {self._teacher_digest[:12]}"
        if name not in written.agreement:
            sources, _ = read_test_set(test.source, test.reference)
            measured = teacher_agreement(self._opened_teacher, sources, outputs.texts)
            value = None if measured is None else round(measured, 4)
            written = written.model_copy(update={"agreement": written.agreement | {name: value}})
            _write(run.folder, written)
        return written.agreement[name]

    @cached_property
    def _teacher_digest(self) -> str:
        return model_digest(self._teacher)

    @cached_property
    def _opened_teacher(self) -> Teacher:
        torch.set_num_threads(self.threads)
        return load_teacher(TeacherConfig(path=str(self._teacher)))

    def _outputs(self, place: Path, model: Path | None, test: TestSet, num_beams: int) -> Outputs:
        sources, references = read_test_set(test.source, test.reference)
        written, name = _written(place), f"{test.name}-{num_beams}"
        path, digest = place / f"{name}.txt.gz", _digest_of_lines(sources)
        if written.sources.get(name) != digest:
            if model is None:
                raise ModelError(f"{place}: no outputs for {test.name}, and no weights to write them; name it in --run")
            config = EvaluateConfig(
                source=test.source, reference=test.reference, num_beams=num_beams, threads=self.threads, task=self.task
            )
            lines = [" ".join(text.split()) + "\n" for text in evaluate(model, config).hypotheses]
            write_atomic(path, gzip.compress("".join(lines).encode(), mtime=0))
            _write(place, written.model_copy(update={"sources": written.sources | {name: digest}}))
        try:
            return Outputs(gzip.decompress(path.read_bytes()).decode().split("\n")[:-1], references)
        except (OSError, EOFError, ValueError) as error:
            raise DataError(f"{path}: cannot be read ({first_line(error)}); delete its folder") from None


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


def _place(recipe: Recipe, method: str) -> str:
    """Names the folder of a run: letters, digits, dots, plus signs and hyphens."""
    parts = [recipe.student.architecture, method.replace("*", "-star"), *(["mono"] if recipe.data.mono else [])]
    return re.sub(r"[^\w.+]+", "-", "-".join([*parts, str(recipe.training.seed)]))


def _begin(place: Path, method: str, model: Path) -> None:
    """Forgets outputs of another model."""
    digest = model_digest(model)
    if not (place / OUTPUTS_FILE).is_file() or _written(place).model != digest:
        _write(place, Written(method=method, model=digest))


def _written(place: Path) -> Written:
    path = place / OUTPUTS_FILE
    try:
        return Written.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(f"{path}: cannot be read ({first_line(error)}); delete its folder") from None


def _write(place: Path, written: Written) -> None:
    write_atomic(place / OUTPUTS_FILE, written.model_dump_json(indent=1) + "\n")


def _digest_of_lines(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def model_digest(model: Path) -> str:
    """Names a model by all that its outputs depend on: weights, rules of the search, and tokenizer."""
    digest = hashlib.sha256()
    rules = (model / name for name in ("model.json", "config.json", "generation_config.json", "vocab.json"))
    tokenizer = (*model.glob("*.spm"), *(model / TOKENIZER_FOLDER).glob("*"))
    for path in (*_weights(model), *filter(Path.is_file, (*rules, *sorted(tokenizer)))):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _weights(model: Path) -> Iterator[Path]:
    files = sorted(model.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{model}: no weights in it (*.safetensors)")
    yield from files
