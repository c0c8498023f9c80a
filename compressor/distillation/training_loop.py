"""The training loop: updates, dev scores, the best weights, and checkpoints to resume from."""

from __future__ import annotations

import json
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
from compressor.distillation.averaging import (
    delete_numbered,
    load_average,
    numbered,
    save_numbered,
)
from compressor.distillation.checkpoint import (
    Progress,
    save_checkpoint,
)
from compressor.distillation.distributed import any_process
from compressor.distillation.evaluation import dev_scores
from compressor.distillation.label_store import LabelStore
from compressor.distillation.slowdown import SlowdownWatch
from compressor.distillation.trainer import Trainer, UpdateStats
from compressor.errors import InterruptedRun
from compressor.files import storage_errors
from compressor.models.base import count_parameters
from compressor.models.weights import Run, save_run
from compressor.output_limit import learn_output_limit
from compressor.provenance import provenance
from compressor.run_folder import (
    METRICS_FILE,
    DevScores,
    RunRecord,
    TeacherRecord,
)
from compressor.text.metrics import Scores


def number_kept(recipe: Recipe) -> int:
    """Returns how many weights of dev scores a run keeps while it trains."""
    return max(recipe.training.keep_checkpoints, recipe.training.average_last or 0)


class TrainingLoop:
    """Updates, with the logging, dev scores and checkpoints between them."""

    def __init__(
        self, trainer: Trainer, state: Progress, labels: LabelStore | None, out: Path, console: Console
    ) -> None:
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
            save_numbered(self.out, self.trainer.student, state.updates, number_kept(self.trainer.recipe))
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
        recipe, teacher = setup.recipe, setup.teacher_facts
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
            labels=self.labels and self.labels.run_record,
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
