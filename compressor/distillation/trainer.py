"""The trainer: groups of batches, their contexts, and one update after another.

Shapes: batch, source_len, context_len, positions = those of a batch that carry loss, vocab, columns = tokens of the
vocabulary that may be generated.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from compressor.data.batching import Batch, Batches
from compressor.data.random_draws import Stream, torch_seed
from compressor.distillation.checkpoint import Progress
from compressor.distillation.contexts import Contexts, Origin, TokenIds, build_contexts, cut_by_length
from compressor.distillation.distributed import accelerator, gather_objects, mixed_precision, sum_over_processes
from compressor.distillation.losses import IGNORED
from compressor.distillation.memory import reuse_freed_memory
from compressor.distillation.methods import resolve
from compressor.distillation.output_loss import StudentOutput
from compressor.distillation.replay import ReplayBuffer
from compressor.distillation.rollout import FULL_BATCH_ROLLOUT, SampleKey, rollout
from compressor.distillation.schedules import beta, learning_rate
from compressor.distillation.setup import Setup
from compressor.distillation.signals import LiveTeacher, Signal
from compressor.distillation.targets import LossInputs
from compressor.errors import ConfigError
from compressor.models.base import Seq2SeqModel


class UpdateStats(NamedTuple):
    """What one update reports, over all processes."""

    loss: float
    beta: float
    learning_rate: float
    student_share: float
    """Share of examples whose context the student wrote."""
    positions: int
    """Positions that carried loss."""


class Trainer:
    """Trains a student by the recipe's method. Use ``groups`` and ``train_group`` for a loop of one's own."""

    def __init__(self, setup: Setup, signal: Signal | None = None) -> None:
        """``signal``: what is read of the teacher; None: all of it from the model in memory."""
        recipe = setup.recipe
        self.setup, self.recipe, self.method = setup, recipe, resolve(recipe.method)
        self.signal = signal or LiveTeacher(setup)
        reuse_freed_memory()
        if recipe.training.threads:  # otherwise they were chosen before the data were read
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
        self.replay = ReplayBuffer(recipe.method.rollout.replay, recipe.training.seed)
        self.speculating_teacher = self._speculating_teacher()
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
        per_epoch = len(self.batches.plan(0)) // recipe.training.accumulation
        self.updates = recipe.training.updates or max(1, round((recipe.training.epochs or 1) * per_epoch))
        self.fresh_optimizer = 0
        """Update at which the optimizer began without moments."""

    def groups(self, progress: Progress) -> Iterator[list[Batch]]:
        """Yields the batches whose rollouts are written together, from ``progress`` on, and advances epoch and batch.

        A group is this process's share of one or several whole updates.
        """
        together = self.recipe.method.rollout.batches if self.method.uses_rollouts else 1
        accumulation = self.recipe.training.accumulation
        if progress.updates >= self.updates:
            return
        for epoch in itertools.count(progress.epoch):
            stream = self.batches.epoch(epoch, start=progress.batch)
            while group := list(
                itertools.islice(stream, accumulation * min(together, self.updates - progress.updates))
            ):
                progress.batch += len(group)
                yield group
                if progress.updates >= self.updates:
                    return
            progress.epoch, progress.batch = epoch + 1, 0

    def train_group(self, group: list[Batch], update: int) -> list[UpdateStats]:
        """Writes the contexts of a group of batches, then makes the updates; ``update`` counts from 0."""
        share = beta(self.recipe.method.schedule, update / self.updates)
        pairs = list(zip(group, self.write_contexts(group, share), strict=True))
        size = self.recipe.training.accumulation
        return [
            self._update(pairs[start : start + size], share, update + start // size)
            for start in range(0, len(pairs), size)
        ]

    def write_contexts(self, group: list[Batch], share: float) -> list[Contexts]:
        """Returns each batch's contexts, by the method's policy; an example without a reference takes a rollout.

        Args:
            group: batches; their rollouts are decoded together.
            share: β.
        """
        policy, seed = self.method.contexts, self.recipe.training.seed
        references = self.setup.train.targets
        origins: list[Origin] = []
        for batch in group:
            origins += policy.choose(batch.indices, share, seed, batch.visit)
        indices = [index for batch in group for index in batch.indices]
        visits = [batch.visit for batch in group for _ in batch.indices]
        places: dict[Origin, list[int]] = {origin: [] for origin in Origin}
        for place, (index, origin) in enumerate(zip(indices, origins, strict=True)):
            absent = origin is Origin.REFERENCE and not references.lengths[index]
            places[Origin.STUDENT if absent else origin].append(place)
        outputs: list[TokenIds] = [()] * len(indices)
        for origin, chosen in places.items():
            texts = self._outputs(origin, [indices[i] for i in chosen], [visits[i] for i in chosen])
            for place, tokens in zip(chosen, texts, strict=True):
                outputs[place] = tokens
        if self.replay.probability:  # those of all processes, so that their number changes nothing
            rollouts = {indices[place]: outputs[place] for place in places[Origin.STUDENT]}
            for of_process in gather_objects(self.accelerator, rollouts):
                self.replay.store(of_process)
        from_data = [True] * len(indices)
        for place in places[Origin.STUDENT]:
            from_data[place] = False
        contexts, start = [], 0
        for batch in group:
            rows = slice(start, start + len(batch.indices))
            contexts.append(build_contexts(outputs[rows], from_data[rows], self.setup.generation))
            start = rows.stop
        return contexts

    def _outputs(self, origin: Origin, indices: list[int], visits: list[int]) -> Sequence[TokenIds]:
        match origin:
            case _ if not indices:
                return []
            case Origin.REFERENCE:
                return [self.setup.train.targets[index] for index in indices]
            case Origin.TEACHER:
                return self.signal.outputs(indices, visits)
            case Origin.STUDENT:
                return self._replayed_or_rolled_out(indices, visits)

    def _replayed_or_rolled_out(self, indices: list[int], visits: list[int]) -> list[TokenIds]:
        """Returns the student's outputs, some of them earlier ones."""
        earlier = self.replay.draw(indices, visits)
        fresh = [place for place, output in enumerate(earlier) if output is None]
        written = self.roll_out([indices[place] for place in fresh], [visits[place] for place in fresh])
        by_place = dict(zip(fresh, written, strict=True))
        return [by_place[place] if output is None else output for place, output in enumerate(earlier)]

    def _speculating_teacher(self) -> Seq2SeqModel | None:
        """Returns the teacher that takes part in rollouts, if it does. Raises ConfigError if it cannot."""
        if self.recipe.method.rollout.strategy != "speculative":
            return None
        teacher = self.setup.teacher
        assert teacher is not None  # the recipe's validation
        model = teacher.as_model()
        if model is None:
            raise ConfigError(
                "method.rollout.strategy: speculative needs a teacher that is a run, or has Marian's or BART's layout; "
                f"{teacher.name} has another"
            )
        return model.to(self.accelerator.device)

    def roll_out(self, indices: list[int], visits: list[int]) -> list[list[int]]:
        """Returns the student's outputs for training sources; ``visits`` with ``indices`` key the samples."""
        config, data, seed = self.recipe.method.rollout, self.recipe.data, self.recipe.training.seed
        limit = min(config.max_new_tokens or data.max_target_tokens, self.recipe.student.max_length - 1)
        return rollout(
            self.student,
            [self.setup.train.sources[index] for index in indices],
            self.setup.generation,
            config,
            max_new_tokens=limit,
            batch_tokens=FULL_BATCH_ROLLOUT * self.recipe.training.batch_tokens,
            keys=[SampleKey(seed, visit, index) for visit, index in zip(visits, indices, strict=True)],
            teacher=self.speculating_teacher,
        )

    def _update(self, pairs: Sequence[tuple[Batch, Contexts]], share: float, update: int) -> UpdateStats:
        """Makes one update with the mean loss over the positions of the batches of all processes."""
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
        self.accelerator.clip_grad_norm_(self.student.parameters(), self.recipe.training.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        (total,) = sum_over_processes(self.accelerator, total)
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
            teacher_logits=lambda rows: self.signal.logits(batch, contexts, rows, self.tokens),
            label_smoothing=self.recipe.method.label_smoothing,
        )
        return self.method.target.loss(inputs)
