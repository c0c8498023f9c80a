"""The training loop: updates, dev scores, the best weights, and checkpoints to resume from."""

from __future__ import annotations

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
from compressor.data.batching import Batch
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
from compressor.distillation.evaluation import (
    dev_outputs,
    dev_scores,
    lost_mass,
    spread,
    teacher_agreement,
    vocabulary_record,
)
from compressor.distillation.label_store import LabelStore
from compressor.distillation.run_log import RunLog, Sample
from compressor.distillation.slowdown import SlowdownWatch
from compressor.distillation.trainer import TAME, Trainer, UpdateStats
from compressor.errors import DivergedRun, InterruptedRun
from compressor.models.base import count_parameters
from compressor.models.weights import Run, save_run
from compressor.output_limit import learn_output_limit
from compressor.provenance import provenance
from compressor.run_folder import (
    DevScores,
    RunRecord,
    TeacherRecord,
)
from compressor.text.metrics import Scores

SAMPLES = 5
"""Dev sources whose outputs are written at every dev score."""


def number_kept(recipe: Recipe) -> int:
    """Returns how many weights of dev scores a run keeps while it trains."""
    return max(recipe.training.keep_checkpoints, recipe.training.average_last or 0)


class TrainingLoop:
    """Updates, with the logging, dev scores and checkpoints between them."""

    def __init__(
        self,
        trainer: Trainer,
        state: Progress,
        *,
        out: Path,
        labels: LabelStore | None,
        console: Console,
        log: RunLog,
    ) -> None:
        self.trainer, self.state, self.labels, self.out, self.console = trainer, state, labels, out, console
        self.log = log
        self.main = trainer.accelerator.is_main_process
        self.eval_every = trainer.recipe.training.eval_every or max(1, trainer.updates // 10)
        self.provenance = provenance(seed=trainer.recipe.training.seed)
        train = trainer.setup.train
        self.output_limit = learn_output_limit(train.sources.lengths, train.targets.lengths)

    def run(self) -> None:
        """Trains to the end; a stop request (SIGINT, SIGTERM) takes effect between two groups of batches.

        Raises:
            InterruptedRun: there was a stop request.
            DivergedRun: a loss or a gradient is not finite, or the loss has risen far above its least mean.
        """
        try:
            self._train()
        except DivergedRun as error:
            best = f", the best weights are those of update {self.state.best_update}" if self.state.best_update else ""
            raise DivergedRun(f"{self.out}: {error.message}; what was written before stays{best}") from None
        finally:
            self.trainer.batches.close()
        self._average()
        self._save(finished=True)
        self._summarize()
        if self.main:
            delete_numbered(self.out, self.trainer.recipe.training.keep_checkpoints)

    def _train(self) -> None:
        trainer, state = self.trainer, self.state
        clock, saved = time.monotonic(), time.monotonic()
        if state.fresh_optimizer == state.updates > 0:
            self._checkpoint()  # so that a finished run that goes on is told from one that does not
        watch = SlowdownWatch()
        with _stop_requests() as stop, self._bar() as bar:
            task = bar.add_task("training", total=trainer.updates, completed=state.updates)
            for group in trainer.groups(state):
                before = state.updates
                duration, stats = self._train_group(group)
                state.seconds, clock = state.seconds + time.monotonic() - clock, time.monotonic()
                self._warn(watch.observe(duration, sum(one.positions for one in stats)))
                rollouts = f", rollouts {_rollout_time(state):.0%} of the time" if trainer.uses_rollouts else ""
                bar.update(task, completed=state.updates, description=f"loss {stats[-1].loss:.3f}{rollouts}")
                if state.updates // self.eval_every > before // self.eval_every or state.updates >= trainer.updates:
                    self._evaluate()
                    if any_process(trainer.accelerator, self.main and self._out_of_patience()):
                        return
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

    def _train_group(self, group: list[Batch]) -> tuple[float, list[UpdateStats]]:
        """Makes the updates of a group of batches, counts and logs them; returns their seconds and what they report."""
        trainer, state = self.trainer, self.state
        start, rollouts = time.monotonic(), trainer.writer.seconds
        stats = trainer.train_group(group, state.updates)
        duration, rollouts = time.monotonic() - start, trainer.writer.seconds - rollouts
        positions = sum(one.positions for one in stats)
        for place, one in enumerate(stats, 1):
            if state.has_diverged(one.loss):
                raise DivergedRun(
                    f"update {state.updates + place}: training has diverged (mean loss {state.recent_loss:.3g}, it was "
                    f"{state.least_loss:.3g}, learning rate {one.learning_rate:g}); {TAME}"
                )
        state.updates += len(stats)
        state.target_tokens += positions
        state.update_seconds += duration
        state.rollout_seconds += rollouts
        self.log.training(
            {
                "update": state.updates,
                **stats[-1]._asdict(),
                "target_tokens": state.target_tokens,
                "target_tokens_per_second": round(positions / duration, 1) if duration else None,
                "rollout_time": round(rollouts / duration, 3) if duration else 0.0,
                "seconds": round(state.seconds + duration, 1),
            }
        )
        return duration, stats

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
        state, setup = self.state, self.trainer.setup
        outputs = dev_outputs(setup)
        scores, agreement = dev_scores(setup, outputs), teacher_agreement(setup, outputs)
        record = self._dev_record(scores)
        if agreement is not None:
            record["agreement"] = round(agreement, 4)
        state.lost_mass = lost_mass(setup, outputs)
        if state.lost_mass is not None:
            record["lost_mass"] = round(state.lost_mass, 6)
        shown = [(setup.dev[row], setup.tokenizer.decode(outputs[row])) for row in spread(len(outputs), SAMPLES)]
        self.log.dev(record, [Sample(example.source, output, example.target or "") for example, output in shown])
        if self.main:
            save_numbered(self.out, self.trainer.student, state.updates, number_kept(self.trainer.recipe))
        self._keep_better(f"update {state.updates}", scores)

    def _average(self) -> None:
        """Takes the mean of the weights at the last dev scores, if it scores better than the best of all."""
        wanted, setup = self.trainer.recipe.training.average_last, self.trainer.setup
        updates = numbered(self.out)[-wanted:] if wanted and self.main else []
        if len(updates) < 2:
            return
        load_average(self.out, updates, self.trainer.student)
        scores = dev_scores(setup, dev_outputs(setup))
        self.log.dev({**self._dev_record(scores), "averaged": updates})
        self._keep_better(f"average of the last {len(updates)} dev scores' weights", scores, updates)

    def _dev_record(self, scores: Scores) -> dict[str, Any]:
        """Returns a dev score as a line of ``metrics.jsonl``."""
        state = self.state
        return {
            "update": state.updates,
            "dev": scores.to_dict(),
            "target_tokens": state.target_tokens,
            "seconds": round(state.seconds, 1),
        }

    def _out_of_patience(self) -> bool:
        """Returns whether too many dev scores in a row gained nothing."""
        patience = self.trainer.recipe.training.patience
        return patience is not None and self.state.without_gain >= patience

    def _keep_better(self, name: str, scores: Scores, averaged: list[int] | None = None) -> None:
        """Prints a dev score, and writes the weights to the run folder if it is the best."""
        state, better = self.state, scores.selection > self.state.best_score
        mark = " (best)" if better else ""
        shown = f"{name}: dev {scores.selection_metric} {scores.selection:.2f}{mark}, {state.seconds:.0f} s"
        self.console.print(shown, highlight=False)
        state.without_gain = 0 if better else state.without_gain + 1
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

    def _summarize(self) -> None:
        """Prints the best dev score, time and speed of a run that came to its end."""
        state, updates = self.state, self.trainer.updates
        patience = self.trainer.recipe.training.patience
        early = f" of {updates}, ended by {patience} dev scores without a gain" if state.updates < updates else ""
        speed = _tokens_per_second(state)
        rollouts = f", {_rollout_time(state):.0%} of it in rollouts" if self.trainer.uses_rollouts else ""
        self.console.print(
            f"finished at update {state.updates}{early}: best dev score {state.best_score:.2f} (update "
            f"{state.best_update}); {state.seconds:.0f} s{rollouts}; {state.target_tokens} target tokens"
            + (f", {speed:.0f} a second" if speed else ""),
            highlight=False,
            soft_wrap=True,
        )

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
            stretch=state.stretch or None,
            batch=state.batch,
            processes=state.processes,
            seconds=round(state.seconds, 1),
            target_tokens=state.target_tokens,
            target_tokens_per_second=_tokens_per_second(state),
            rollout_time=round(_rollout_time(state), 4),
            stopped_early=finished and state.updates < self.trainer.updates,
            dev=DevScores.model_validate(state.best_scores) if state.best_scores else None,
            teacher=teacher and TeacherRecord(name=teacher.name, revision=revision, parameters=teacher.parameters),
            vocabulary=vocabulary_record(setup, state.lost_mass),
            labels=self.labels and self.labels.run_record,
            data=setup.data,
            output_limit=self.output_limit,
            provenance=self.provenance,
        )

    def _checkpoint(self) -> None:
        if self.main:
            trainer = self.trainer
            save_checkpoint(
                self.out,
                trainer.recipe,
                trainer.student,
                trainer.optimizer,
                self.state,
                trainer.writer.replay,
            )

    def _bar(self) -> ProgressBar:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        quiet = self.console.quiet or not self.console.is_terminal or not self.main
        return ProgressBar(*columns, console=self.console, disable=quiet)


def _rollout_time(state: Progress) -> float:
    """Returns the share of the time of updates that rollouts took."""
    return min(1.0, state.rollout_seconds / state.update_seconds) if state.update_seconds else 0.0


def _tokens_per_second(state: Progress) -> float | None:
    """Returns the target tokens a second, over the time of updates; None before the first."""
    return round(state.target_tokens / state.update_seconds, 1) if state.update_seconds else None


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
