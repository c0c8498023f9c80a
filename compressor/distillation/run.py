"""A run from recipe to run folder: updates, dev scores, the best weights, and checkpoints to resume from."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from compressor.config import Recipe
from compressor.distillation.averaging import (
    delete_numbered,
    load_average,
    numbered,
    save_numbered,
)
from compressor.distillation.checkpoint import (
    Progress,
    differences,
    load_checkpoint,
    progress_of,
    recorded_recipe,
    same_length,
    save_checkpoint,
)
from compressor.distillation.distributed import any_process, this_process
from compressor.distillation.evaluation import dev_scores
from compressor.distillation.labels import Labels, OpenLabelEngine
from compressor.distillation.setup import set_up
from compressor.distillation.signals import prepare_signal
from compressor.distillation.slowdown import SlowdownWatch
from compressor.distillation.thread_count import use_threads
from compressor.distillation.trainer import Trainer, UpdateStats
from compressor.errors import InterruptedRun, ModelError, OutputExistsError
from compressor.files import storage_errors, write_atomic
from compressor.locks import hold
from compressor.models.base import count_parameters
from compressor.models.weights import Run, load_weights, save_run
from compressor.output_folder import check_replaceable
from compressor.output_limit import learn_output_limit
from compressor.progress import Bar
from compressor.provenance import provenance
from compressor.run_folder import (
    CHECKPOINT_FOLDER,
    METRICS_FILE,
    WEIGHTS_FILE,
    DevScores,
    RunRecord,
    TeacherRecord,
    is_finished,
    read_recipe,
    read_record,
)
from compressor.text.metrics import Scores

CACHE_FOLDER = "tokenized"
"""Name of the folder of tokenized corpora, beside the run folder."""


def distill(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    force: bool = False,
    progress: bool = True,
    label_engine: OpenLabelEngine | None = None,
) -> Path:
    """Trains a student by a recipe and returns the run folder.

    Args:
        recipe: data, teacher, student, method and training.
        out: the run folder; its weights are always those of the best dev score so far.
        resume: continue from the last checkpoint in ``out``, or from the start if the run was killed before its first.
            A recipe with more updates or epochs makes a run longer, a finished one, too.
        force: replace ``out``.
        progress: show a progress bar and a log line per dev score on standard error.
        label_engine: exports the teacher, to write its outputs faster than PyTorch does; None: PyTorch writes them.

    Raises:
        OutputExistsError: ``out`` exists, and neither ``resume`` nor ``force`` is set; or another process writes it.
        ModelError: there is no run to resume, or it has another recipe.
        InterruptedRun: Ctrl-C or SIGTERM; the checkpoint was written first.
        DataError, ModelError, VocabularyError, StorageError: see ``compressor.errors``.
    """
    main = this_process().is_main_process
    with _run_lock(out) if main else nullcontext():
        return _distill(recipe, out, resume=resume, force=force, progress=progress and main, label_engine=label_engine)


def _distill(
    recipe: Recipe, out: Path, *, resume: bool, force: bool, progress: bool, label_engine: OpenLabelEngine | None
) -> Path:
    """Does what ``distill`` says, while the run is locked."""
    if resume and _is_done(out, recipe):
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
    with Bar(console, shown=not console.quiet) as bar:
        if setup.augmentation is not None:
            setup.augmentation.progress = bar.count("augmenting the first pass")
        trainer = Trainer(setup)
    with process.main_process_first():
        trainer.signal, labels = prepare_signal(setup, out, console, label_engine)
    state = _resumed(trainer, out, labels, console) if resume else Progress(seconds=labels.seconds)
    process.wait_for_everyone()  # the main one is about to change what all have read
    if resume and process.is_main_process:
        _cut_metrics(out / METRICS_FILE, state.updates)
        delete_numbered(out, _number_kept(recipe), state.updates)
    _Loop(trainer, state, labels, out, console).run()
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


def _is_done(out: Path, recipe: Recipe) -> bool:
    """Returns whether the run that is to be resumed has come to its end, and its recipe asks for no more.

    Raises:
        ModelError: there is no run, or it has another recipe.
    """
    if not out.is_dir():
        raise ModelError(f"{out}: there is no run to resume; start without {{resume}}", options=["resume"])
    finished, recorded = is_finished(out), recorded_recipe(out)
    problems = differences(recorded, recipe) if recorded else ["it has no recipe"] if finished else []
    if problems:
        what = "is finished, with another recipe" if finished else "belongs to another recipe"
        cure = "resume with the same one" if not finished else "choose another folder"
        message = f"{out}: {what} ({'; '.join(problems)}); {cure}, or start again with {{force}}"
        raise ModelError(message, options={"force": True})
    best = read_recipe(out)
    return finished and best is not None and same_length(best, recipe)


def _resumed(trainer: Trainer, out: Path, labels: Labels, console: Console) -> Progress:
    """Returns the counters that a run goes on from; fills student and optimizer.

    Raises:
        ModelError: the checkpoint is damaged, or the recipe asks for no more updates than were made.
    """
    recorded, start = recorded_recipe(out), ""
    if (out / CHECKPOINT_FOLDER).is_dir():
        state = load_checkpoint(out, trainer.student, trainer.optimizer)
    elif is_finished(out):
        load_weights(out / WEIGHTS_FILE, trainer.student)
        state = progress_of(read_record(out))
        start = f", with the best weights (update {state.best_update}), a new optimizer and a new warm-up"
    else:
        return Progress(seconds=labels.seconds)
    trainer.fresh_optimizer = state.fresh_optimizer
    if recorded is not None and not same_length(recorded, trainer.recipe):
        if state.updates >= trainer.updates:
            made = f"has made {state.updates} updates, and the recipe asks for {trainer.updates}"
            raise ModelError(f"{out}: {made}; give more in training.updates or training.epochs")
        told = f"goes on at update {state.updates} of now {trainer.updates}{start}"
        console.print(f"{told}; learning rate and β are those of the new length", highlight=False, soft_wrap=True)
    return state


def _number_kept(recipe: Recipe) -> int:
    """Returns how many weights of dev scores a run keeps while it trains."""
    return max(recipe.training.keep_checkpoints, recipe.training.average_last or 0)


def _make_folder(out: Path, *, fresh: bool) -> None:
    if fresh:
        check_replaceable(out)
        shutil.rmtree(out, ignore_errors=True)
    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)


class _Loop:
    """Updates, with the logging, dev scores and checkpoints between them."""

    def __init__(self, trainer: Trainer, state: Progress, labels: Labels, out: Path, console: Console) -> None:
        self.trainer, self.state, self.labels, self.out, self.console = trainer, state, labels, out, console
        self.main = trainer.accelerator.is_main_process
        self.eval_every = trainer.recipe.training.eval_every or max(1, trainer.updates // 10)
        self.provenance = provenance(seed=trainer.recipe.training.seed)
        train = trainer.setup.train
        self.output_limit = learn_output_limit(train.sources.lengths, train.targets.lengths)

    def run(self) -> None:
        """Trains to the end; a stop request (SIGINT, SIGTERM) takes effect between two groups of batches."""
        trainer, state = self.trainer, self.state
        clock, saved = time.monotonic(), time.monotonic()
        if state.fresh_optimizer == state.updates > 0:
            self._checkpoint()  # so that a finished run that goes on is told from one that does not
        watch = SlowdownWatch()
        with _stop_requests() as stop, self._bar() as bar:
            task = bar.add_task("training", total=trainer.updates, completed=state.updates)
            if trainer.setup.augmentation is not None:
                trainer.setup.augmentation.progress = lambda done, total: bar.update(
                    task, description=f"augmenting {done / total:4.0%}"
                )
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
        self._average()
        self._save(finished=True)
        if self.main:
            delete_numbered(self.out, trainer.recipe.training.keep_checkpoints)

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
        if self.main:
            save_numbered(self.out, self.trainer.student, state.updates, _number_kept(self.trainer.recipe))
        self._keep_better(f"update {state.updates}", scores)

    def _average(self) -> None:
        """Takes the mean of the weights at the last dev scores, if it scores better than the best of all."""
        wanted, state = self.trainer.recipe.training.average_last, self.state
        updates = numbered(self.out)[-wanted:] if wanted and self.main else []
        if len(updates) < 2:
            return
        load_average(self.out, updates, self.trainer.student)
        scores = dev_scores(self.trainer.setup)
        self._append({"update": state.updates, "averaged": updates, "dev": scores.to_dict()})
        self._keep_better(f"average of the last {len(updates)} dev scores' weights", scores, updates)

    def _keep_better(self, name: str, scores: Scores, averaged: list[int] | None = None) -> None:
        """Prints a dev score, and writes the weights to the run folder if it is the best."""
        state, better = self.state, scores.selection > self.state.best_score
        mark = " (best)" if better else ""
        shown = f"{name}: dev {scores.selection_metric} {scores.selection:.2f}{mark}, {state.seconds:.0f} s"
        self.console.print(shown, highlight=False)
        if better:
            state.best_score, state.best_update, state.averaged = scores.selection, state.updates, averaged
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
            averaged=tuple(state.averaged) if state.averaged else None,
            epoch=state.epoch,
            batch=state.batch,
            seconds=round(state.seconds, 1),
            dev=DevScores.model_validate(state.best_scores) if state.best_scores else None,
            teacher=teacher and TeacherRecord(name=teacher.name, revision=revision, parameters=teacher.parameters),
            labels=self.labels.record if self.labels.outputs else None,
            data=setup.data,
            output_limit=self.output_limit,
            provenance=self.provenance,
        )

    def _checkpoint(self) -> None:
        if self.main:
            trainer = self.trainer
            save_checkpoint(self.out, trainer.recipe, trainer.student, trainer.optimizer, self.state)

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
            record = json.loads(line)
            if record["update"] <= updates and "averaged" not in record:
                lines.append(line)
        except ValueError:
            continue
    write_atomic(path, "".join(lines))
