"""The trainer: groups of batches, their contexts, and one update after another.

Shapes: batch, source_len, context_len, positions = those of a batch that carry loss, vocab, columns = tokens of the
vocabulary that may be generated.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from compressor.data.batching import Batch, Batches
from compressor.data.random_draws import Stream, torch_seed
from compressor.distillation.checkpoint import Progress
from compressor.distillation.context_writer import ContextWriter
from compressor.distillation.contexts import Contexts, cut_by_length
from compressor.distillation.distributed import accelerator, mixed_precision, sum_over_processes
from compressor.distillation.losses import IGNORED
from compressor.distillation.memory import reuse_freed_memory
from compressor.distillation.methods import resolve
from compressor.distillation.output_loss import StudentOutput
from compressor.distillation.schedules import beta, learning_rate
from compressor.distillation.setup import Setup
from compressor.distillation.signals import LiveTeacher, Signal
from compressor.distillation.targets import LossInputs
from compressor.errors import DivergedRun, ModelError


class UpdateStats(NamedTuple):
    """What one update reports, over all processes."""

    loss: float
    beta: float
    learning_rate: float
    student_share: float
    """Share of examples whose context the student wrote."""
    positions: int
    """Positions that carried loss."""


TAME = "try a lower training.learning_rate, more training.warmup_updates or training.precision=fp32"
"""What helps a run that diverges."""


class Trainer:
    """Trains a student by the recipe's method. Use ``groups`` and ``train_group`` for a loop of one's own."""

    def __init__(self, setup: Setup, signal: Signal | None = None) -> None:
        """``signal``: what is read of the teacher; None: distributions, of the model in memory."""
        recipe = setup.recipe
        self.setup, self.recipe, self.method = setup, recipe, resolve(recipe.method)
        self.uses_rollouts = recipe.method.row.uses_rollouts
        self.signal = signal or LiveTeacher(setup)
        reuse_freed_memory()
        # for callers that have not chosen threads, as ``distill`` does before it reads the data
        if recipe.training.threads:
            torch.set_num_threads(recipe.training.threads)
        self.accelerator = accelerator(mixed_precision(recipe.training.precision))
        optimizer = torch.optim.AdamW(
            setup.student.parameters(),
            lr=recipe.training.learning_rate,
            betas=recipe.training.adam_betas,
            weight_decay=recipe.training.weight_decay,
            fused=self.accelerator.device.type in ("cpu", "cuda"),
        )
        self.model, self.optimizer = self.accelerator.prepare(setup.student, optimizer)
        self.student = setup.student
        if setup.teacher is not None:
            setup.teacher.to(self.accelerator.device)
        self.writer = ContextWriter(setup, self.accelerator)
        vocab_size, device = setup.student.config.vocab_size, self.accelerator.device
        allowed = setup.generation.allowed_ids(vocab_size)
        self.tokens = torch.tensor(allowed, device=device)
        """int64 [columns]: tokens that may be generated; no distribution has others."""
        self.columns = torch.full((vocab_size,), IGNORED, device=device)
        """int64 [vocab]: a token's place among ``tokens``."""
        self.columns[self.tokens] = torch.arange(len(allowed), device=device)
        self.batches = Batches(
            setup.train.sources,
            setup.train.targets,
            pad_id=setup.generation.pad_id,
            max_tokens=recipe.training.batch_tokens,
            seed=recipe.training.seed,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
            accumulation=recipe.training.accumulation,
            change=setup.augmentation.rows if setup.augmentation else None,
        )
        per_epoch = self.batches.in_a_pass() // recipe.training.accumulation
        self.updates = recipe.training.updates or max(1, round((recipe.training.epochs or 1) * per_epoch))
        self.fresh_optimizer = 0
        """Update at which the optimizer began without moments."""
        self._following: tuple[list[Batch], int] | None = None
        """The group after the one that ``groups`` has yielded, and its first update."""

    def groups(self, progress: Progress) -> Iterator[list[Batch]]:
        """Yields the batches whose rollouts are written together, from ``progress`` on, and advances epoch and batch.

        A group is this process's share of one or several whole updates. It has examples of one stretch.
        """
        if self.writer.background is None:
            yield from self._groups(progress)
            return
        ahead = replace(progress)
        coming = self._positioned(ahead)
        current = next(coming, None)
        while current is not None:
            following = next(coming, None)
            self._following = following and (following[0], following[1].updates)
            group, place = current
            progress.epoch, progress.stretch, progress.batch = place.epoch, place.stretch, place.batch
            yield group
            current = following

    def _positioned(self, ahead: Progress) -> Iterator[tuple[list[Batch], Progress]]:
        """Yields groups, each with the counters when it is trained on; ``ahead`` is advanced, updates included."""
        for group in self._groups(ahead):
            yield group, replace(ahead)
            ahead.updates += len(group) // self.recipe.training.accumulation

    def _groups(self, progress: Progress) -> Iterator[list[Batch]]:
        """Does what ``groups`` says, without looking at the next group."""
        together = self.recipe.method.rollout.batches if self.uses_rollouts else 1
        accumulation = self.recipe.training.accumulation
        if progress.updates >= self.updates:
            return
        while True:
            stream = self.batches.stretch(progress.epoch, progress.stretch, start=progress.batch)
            while group := list(
                itertools.islice(stream, accumulation * min(together, self.updates - progress.updates))
            ):
                progress.batch += len(group)
                yield group
                if progress.updates >= self.updates:
                    return
            progress.stretch, progress.batch = progress.stretch + 1, 0
            if progress.stretch == self.batches.stretches:
                progress.epoch, progress.stretch = progress.epoch + 1, 0

    def train_group(self, group: list[Batch], update: int) -> list[UpdateStats]:
        """Writes the contexts of a group of batches, then makes the updates; ``update`` counts from 0."""
        share = beta(self.recipe.method.schedule, update / self.updates)
        pairs = list(zip(group, self.write_contexts(group, share), strict=True))
        if self._following is not None:
            (following, first), self._following = self._following, None
            self.writer.begin(following, beta(self.recipe.method.schedule, first / self.updates))
        size = self.recipe.training.accumulation
        return [
            self._update(pairs[start : start + size], share, update + start // size)
            for start in range(0, len(pairs), size)
        ]

    def write_contexts(self, group: list[Batch], share: float) -> list[Contexts]:
        """Returns each batch's contexts; ``share`` is β."""
        return self.writer.write(group, share, self.signal)

    def _update(self, pairs: Sequence[tuple[Batch, Contexts]], share: float, update: int) -> UpdateStats:
        """Makes one update with the mean loss over the positions of the batches of all processes.

        Raises:
            DivergedRun: loss or gradient is not finite; the weights stay as they are.
        """
        rate = learning_rate(self.recipe.training, update, self.updates, self.fresh_optimizer)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate
        self.student.train()
        device = self.accelerator.device
        positions, examples, written = sum_over_processes(
            self.accelerator,
            sum(int(contexts.loss_mask.sum()) for _, contexts in pairs),
            sum(len(batch.indices) for batch, _ in pairs),
            sum(int((~contexts.from_data).sum()) for _, contexts in pairs),
        )
        total = 0.0
        pieces = [piece for batch, contexts in pairs for piece in cut_by_length(batch, contexts)]
        for number, (part, ctx) in enumerate(pieces):
            self._seed_dropout(part)
            part, ctx = part.to(device), ctx.to(device)
            last = number == len(pieces) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                with self.accelerator.autocast():
                    loss = self.loss(part, ctx) * (int(ctx.loss_mask.sum()) / positions)
                # Data parallel averages gradients over processes; the loss is already divided by all positions.
                self.accelerator.backward(loss * self.accelerator.num_processes)
            total += loss.item()
        norm = float(self.accelerator.clip_grad_norm_(self.student.parameters(), self.recipe.training.clip_norm))
        (total,) = sum_over_processes(self.accelerator, total)
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise DivergedRun(
                f"update {update + 1}: training has diverged (loss {total:g}, norm of the gradient {norm:g}, learning "
                f"rate {rate:g}); {TAME}"
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return UpdateStats(total, share, rate, written / examples, int(positions))

    def _seed_dropout(self, part: Batch) -> None:
        """Keys PyTorch's generator by the piece, which is the same on any number of processes and after a restart."""
        torch.manual_seed(torch_seed(Stream.DROPOUT, self.recipe.training.seed, part.visit, part.indices[0]))

    def loss(self, batch: Batch, contexts: Contexts) -> Tensor:
        """Returns the method's mean loss over positions (a scalar), over the tokens that may be generated."""
        features = self.model(batch.source, batch.source_mask, contexts.tokens)[contexts.loss_mask]
        inputs = LossInputs(
            output=StudentOutput(features, *self.student.output_layer(self.tokens)),
            contexts=contexts,
            label_columns=self.columns[contexts.labels],
            teacher_logits=lambda rows: self._teacher_logits(batch, contexts, rows),
            label_smoothing=self.recipe.method.label_smoothing,
        )
        return self.method.target.loss(inputs)

    def _teacher_logits(self, batch: Batch, contexts: Contexts, rows: Tensor) -> Tensor:
        """Returns what ``Signal.logits`` does. Raises ModelError at a NaN, which hard targets would hide."""
        logits = self.signal.logits(batch, contexts, rows, self.tokens)
        if bool(logits.sum().isnan()):
            owners = contexts.loss_mask[rows].nonzero()[:, 0].to(logits.device)
            first = int(owners[logits.sum(dim=-1).isnan()][0])
            example = batch.indices[int(rows.nonzero()[first, 0])] + 1
            name = self.setup.teacher.name if self.setup.teacher else "on disk"
            raise ModelError(
                f"teacher {name}: its output has NaN at training example {example}; its weights are damaged, or its "
                "arithmetic overflows: get them again, or give training.precision=fp32"
            )
        return logits
