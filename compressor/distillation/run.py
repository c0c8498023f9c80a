"""A run from recipe to run folder: updates, dev scores, the best weights, and checkpoints to resume from."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from compressor.config import Recipe
from compressor.distillation.checkpoint import (
    Progress,
    load_checkpoint,
    recipe_digest,
    save_checkpoint,
)
from compressor.distillation.distributed import any_process, this_process
from compressor.distillation.evaluation import dev_scores
from compressor.distillation.setup import set_up
from compressor.distillation.signals import prepare_signal
from compressor.distillation.slowdown import SlowdownWatch
from compressor.distillation.thread_count import use_threads
from compressor.distillation.trainer import Trainer, UpdateStats
from compressor.errors import InterruptedRun, ModelError, OutputExistsError
from compressor.files import storage_errors, write_atomic
from compressor.locks import hold
from compressor.models.base import count_parameters
from compressor.models.weights import Run, save_run
from compressor.output_folder import check_replaceable
from compressor.progress import Bar
from compressor.provenance import provenance
from compressor.run_folder import (
    CHECKPOINT_FOLDER,
    METRICS_FILE,
    DevScores,
    RunRecord,
    TeacherRecord,
    is_finished,
    read_recipe,
)

CACHE_FOLDER = "tokenized"
"""Name of the folder of tokenized corpora, beside the run folder."""


def distill(recipe: Recipe, out: Path, *, resume: bool = False, force: bool = False, progress: bool = True) -> Path:
    """Trains a student by a recipe and returns the run folder.

    Args:
        recipe: data, teacher, student, method and training.
        out: the run folder; its weights are always those of the best dev score so far.
        resume: continue from the last checkpoint in ``out``, or from the start if the run was killed before its first.
        force: replace ``out``.
        progress: show a progress bar and a log line per dev score on standard error.

    Raises:
        OutputExistsError: ``out`` exists, and neither ``resume`` nor ``force`` is set; or another process writes it.
        ModelError: there is no run to resume, or it has another recipe.
        InterruptedRun: Ctrl-C or SIGTERM; the checkpoint was written first.
        DataError, ModelError, VocabularyError, StorageError: see ``compressor.errors``.
    """
    process = this_process()
    if not process.is_main_process:
        return _distill(recipe, out, resume=resume, force=force, progress=False)
    with _run_lock(out):
        return _distill(recipe, out, resume=resume, force=force, progress=progress)


def _distill(recipe: Recipe, out: Path, *, resume: bool, force: bool, progress: bool) -> Path:
    """Does what ``distill`` says, while the run is locked."""
    if resume:
        if not out.is_dir():
            raise ModelError(f"{out}: there is no run to resume; start without {{resume}}", options=["resume"])
        if is_finished(out):
            _check_recipe(out, recipe)
            return out
    if out.exists() and not (resume or force) and any(out.iterdir()):
        raise OutputExistsError(
            f"{out}: exists already; continue it with {{resume}}, replace it with {{force}}, or choose another",
            options={"resume": True, "force": True},
        )
    process = this_process()
    process.wait_for_everyone()  # no process writes before all have checked that the folder is free
    console = Console(stderr=True, quiet=not progress or not process.is_main_process)
    use_threads(recipe.training.threads, console)
    cache = Path(recipe.data.cache) if recipe.data.cache else out.parent / CACHE_FOLDER
    with Bar(console, shown=not console.quiet) as bar:
        setup = set_up(recipe, bar, cache=cache)
    if process.is_main_process:
        _make_folder(out, fresh=force and not resume)
    console.print(setup.data.report_text, highlight=False, markup=False)  # it quotes examples
    trainer = Trainer(setup)
    with process.main_process_first():
        trainer.signal, seconds = prepare_signal(setup, out, console)
    state = Progress(recipe_digest=recipe_digest(recipe), seconds=seconds)
    if resume:
        if (out / CHECKPOINT_FOLDER).is_dir():
            state = load_checkpoint(out, setup.student, trainer.optimizer, state.recipe_digest)
        if process.is_main_process:
            _cut_metrics(out / METRICS_FILE, state.updates)
    _Loop(trainer, state, out, console).run()
    if process.is_main_process:
        shutil.rmtree(out / CHECKPOINT_FOLDER, ignore_errors=True)
    return out


@contextmanager
def _run_lock(out: Path) -> Iterator[None]:
    """Keeps other processes from writing the run; the lock is beside the folder, which may be replaced."""

    def refuse(pid: int | None) -> None:
        raise OutputExistsError(
            f"{out}: process {pid or 'of unknown id'} is writing this run: wait until it ends or stop it, "
            "or choose another folder"
        )

    out = out.resolve()
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with hold(out.parent / f".{out.name}.lock", refuse):
        yield


def _check_recipe(out: Path, recipe: Recipe) -> None:
    recorded = read_recipe(out)
    if recorded is None or recipe_digest(recorded) != recipe_digest(recipe):
        message = f"{out}: is finished, with another recipe; choose another folder, or replace it with {{force}}"
        raise ModelError(message, options={"force": True})


def _make_folder(out: Path, *, fresh: bool) -> None:
    if fresh:
        check_replaceable(out)
        shutil.rmtree(out, ignore_errors=True)
    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)


class _Loop:
    """Updates, with the logging, dev scores and checkpoints between them."""

    def __init__(self, trainer: Trainer, state: Progress, out: Path, console: Console) -> None:
        self.trainer, self.state, self.out, self.console = trainer, state, out, console
        self.main = trainer.accelerator.is_main_process
        self.eval_every = trainer.recipe.training.eval_every or max(1, trainer.updates // 10)
        self.provenance = provenance(seed=trainer.recipe.training.seed)

    def run(self) -> None:
        """Trains to the end; a stop request (SIGINT, SIGTERM) takes effect between two groups of batches."""
        trainer, state = self.trainer, self.state
        clock, saved = time.monotonic(), time.monotonic()
        watch = SlowdownWatch()
        with _stop_requests() as stop, self._bar() as bar:
            task = bar.add_task("training", total=trainer.updates, completed=state.updates)
            for group in trainer.groups(state):
                before = state.updates
                start = time.monotonic()
                stats = trainer.train_group(group, before)
                duration = time.monotonic() - start
                state.updates += len(stats)
                state.seconds, clock = state.seconds + time.monotonic() - clock, time.monotonic()
                self._warn(watch.observe(duration, sum(one.positions for one in stats)))
                bar.update(task, completed=state.updates, description=f"loss {stats[-1].loss:.3f}")
                self._log(stats, before)
                if state.updates // self.eval_every > before // self.eval_every or state.updates >= trainer.updates:
                    self._evaluate()
                    clock = time.monotonic()
                stopping = any_process(trainer.accelerator, bool(stop))
                if stopping or time.monotonic() - saved > 60 * trainer.recipe.training.checkpoint_minutes:
                    self._checkpoint()
                    saved = clock = time.monotonic()
                if stopping:
                    raise InterruptedRun(
                        f"stopped at update {state.updates} of {trainer.updates}; continue with {{resume}} {{out}}",
                        options={"resume": True, "out": str(self.out)},
                    )
        self._save(finished=True)

    def _warn(self, ratio: float | None) -> None:
        """Prints a warning if an update was suddenly slow."""
        if ratio is not None:
            threads = torch.get_num_threads()
            cure = (
                f", or continue with training.threads=1 ({threads} threads wait for one another)" if threads > 1 else ""
            )
            self.console.print(
                f"warning: update {self.state.updates} took {ratio:.1f} times as long as usual: other work seems to "
                f"use the processors; stop it{cure}",
                highlight=False,
                soft_wrap=True,
            )

    def _evaluate(self) -> None:
        state = self.state
        scores = dev_scores(self.trainer.setup)
        self._append({"update": state.updates, "dev": scores.to_dict(), "seconds": round(state.seconds, 1)})
        better = scores.selection > state.best_score
        mark = " (best)" if better else ""
        self.console.print(
            f"update {state.updates}: dev {scores.selection:.2f}{mark}, {state.seconds:.0f} s", highlight=False
        )
        if better:
            state.best_score, state.best_update = scores.selection, state.updates
            state.best_scores = scores.to_dict()
            self._save(finished=False)

    def _save(self, *, finished: bool) -> None:
        """Writes the run folder; at the end the best weights are on disk already, so only the record is written."""
        if not self.main:
            return
        setup = self.trainer.setup
        run = Run(setup.student, setup.generation, setup.tokenizer, setup.recipe, self._record(finished))
        save_run(self.out, run, weights=not finished)

    def _record(self, finished: bool) -> RunRecord:
        setup, state = self.trainer.setup, self.state
        recipe, teacher = setup.recipe, setup.teacher
        revision = recipe.teacher and recipe.teacher.revision
        return RunRecord(
            finished=finished,
            task=recipe.task,
            source_language=recipe.source_language,
            target_language=recipe.target_language,
            licence=recipe.licence,
            method=recipe.method.name,
            parameters=count_parameters(setup.student),
            updates=state.updates,
            best_update=state.best_update,
            seconds=round(state.seconds, 1),
            dev=DevScores.model_validate(state.best_scores) if state.best_scores else None,
            teacher=teacher and TeacherRecord(name=teacher.name, revision=revision, parameters=teacher.parameters),
            data=setup.data,
            provenance=self.provenance,
        )

    def _checkpoint(self) -> None:
        if self.main:
            save_checkpoint(self.out, self.trainer.student, self.trainer.optimizer, self.state)

    def _log(self, stats: list[UpdateStats], first: int) -> None:
        last = stats[-1]
        self._append({"update": first + len(stats), **last._asdict(), "seconds": round(self.state.seconds, 1)})

    def _append(self, record: dict[str, Any]) -> None:
        if self.main:
            with storage_errors(self.out), (self.out / METRICS_FILE).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(record) + "\n")

    def _bar(self) -> ProgressBar:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        quiet = self.console.quiet or not self.console.is_terminal or not self.main
        return ProgressBar(*columns, console=self.console, disable=quiet)


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM; a second one stops at once."""
    received: list[int] = []

    def request(number: int, frame: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    try:
        previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: the caller handles signals
        previous = {}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _cut_metrics(path: Path, updates: int) -> None:
    """Removes the lines logged after the checkpoint, which will be logged again, and a line that a kill cut short."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []:
        try:
            if json.loads(line)["update"] <= updates:
                lines.append(line)
        except ValueError:
            continue
    write_atomic(path, "".join(lines))
