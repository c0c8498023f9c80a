"""Distillation: groups of batches, contexts written by the student, advice by the teacher, updates, dev scores.

Shapes: batch, source_len, context_len, positions = kept positions of a batch, vocab, tokens = those of the vocabulary
that may be generated.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
from collections.abc import Iterator
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from compressor.config import Recipe
from compressor.data.batching import Batch, Batches
from compressor.distillation import losses
from compressor.distillation.checkpoint import Progress
from compressor.distillation.contexts import Contexts, build_contexts, draw_coins
from compressor.distillation.distributed import accelerator
from compressor.distillation.methods import resolve
from compressor.distillation.rollout import rollout
from compressor.distillation.schedules import beta, learning_rate
from compressor.distillation.setup import Setup
from compressor.provenance import cpu
from compressor.text.metrics import Scores, score
from compressor.text.tokenizer import cut

FULL_BATCH_ROLLOUT = 4
"""Rollouts need no gradients: so many times the tokens of a training batch are decoded together."""

WORTH_CUTTING = 0.8
"""A batch is cut where the pieces have less than this share of its padded positions."""
SMALLEST_PIECE = 256
"""Padded positions from which a cut can pay for its own calls."""


class Step(NamedTuple):
    """What one update reports."""

    loss: float
    beta: float
    learning_rate: float
    own: float
    """Share of rows whose context the student wrote."""
    positions: int


class Trainer:
    """Trains a student by the recipe's method. Use ``groups`` and ``train_group`` for a loop of one's own."""

    def __init__(self, setup: Setup) -> None:
        recipe = setup.recipe
        self.setup, self.recipe, self.method = setup, recipe, resolve(recipe.method)
        keep_memory()
        if recipe.training.threads:
            torch.set_num_threads(recipe.training.threads)
        self.accelerator = accelerator(_precision(recipe))
        fused = self.accelerator.device.type in ("cpu", "cuda")
        optimizer = torch.optim.AdamW(
            setup.student.parameters(),
            lr=recipe.training.learning_rate,
            betas=recipe.training.adam_betas,
            weight_decay=recipe.training.weight_decay,
            fused=fused,
        )
        self.model, self.optimizer = self.accelerator.prepare(setup.student, optimizer)
        self.student = setup.student
        if setup.teacher is not None:
            setup.teacher.to(self.accelerator.device)
        vocab_size, device = setup.student.config.vocab_size, self.accelerator.device
        allowed = setup.generation.allowed_ids(vocab_size)
        self.tokens = torch.tensor(allowed, device=device)
        """int64 [tokens]: what may be generated; nothing else is in any distribution."""
        self.columns = torch.full((vocab_size,), losses.IGNORED, device=device)
        """int64 [vocab]: a token's place among ``tokens``."""
        self.columns[self.tokens] = torch.arange(len(allowed), device=device)
        self.outputs = setup.train.targets
        """Of the data-set side: references, or what ``teacher_outputs`` puts in their place."""
        self.batches = Batches(
            setup.train.sources,
            setup.train.targets,
            pad_id=setup.generation.pad_id,
            max_tokens=recipe.training.batch_tokens,
            seed=recipe.training.seed,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
        )
        self.updates = recipe.training.updates or max(
            1, round((recipe.training.epochs or 1) * len(self.batches.plan(0)))
        )

    def groups(self, progress: Progress) -> Iterator[list[Batch]]:
        """Batches from where ``progress`` stands, as many as are rolled out at once; advances epoch and batch."""
        size = self.recipe.method.rollout.batches if self.method.own_contexts else 1
        for epoch in itertools.count(progress.epoch):
            stream = self.batches.epoch(epoch, start=progress.batch)
            while group := list(itertools.islice(stream, min(size, self.updates - progress.updates))):
                progress.batch += len(group)
                yield group
                if progress.updates >= self.updates:
                    return
            progress.epoch, progress.batch = epoch + 1, 0

    def train_group(self, group: list[Batch], update: int) -> list[Step]:
        """Writes the contexts of a group of batches, then makes one update with each; ``update`` counts from 0."""
        share = beta(self.recipe.method.schedule, update / self.updates)
        contexts = self._contexts(group, share, update)
        pairs = zip(group, contexts, strict=True)
        return [self._update(batch, ctx, share, update + i) for i, (batch, ctx) in enumerate(pairs)]

    def _contexts(self, group: list[Batch], share: float, update: int) -> list[Contexts]:
        """Each example keeps the data set's output with probability ``share``, else the student writes one."""
        coins: list[list[bool]] = []
        for i, batch in enumerate(group):
            seed = (self.recipe.training.seed, 1, update + i, self.accelerator.process_index)
            drawn = draw_coins(share, len(batch.indices), seed) if self.method.own_contexts else None
            keep = drawn or [True] * len(batch.indices)
            coins.append([heads and len(self.outputs[j]) > 0 for heads, j in zip(keep, batch.indices, strict=True)])
        indices = [index for batch in group for index in batch.indices]
        heads = list(itertools.chain.from_iterable(coins))
        written = iter(self.roll_out([index for index, kept in zip(indices, heads, strict=True) if not kept]))
        outputs = iter([self.outputs[i] if kept else next(written) for i, kept in zip(indices, heads, strict=True)])
        rules = self.setup.generation
        return [build_contexts(list(itertools.islice(outputs, len(row))), row, rules) for row in coins]

    def roll_out(self, indices: list[int]) -> list[list[int]]:
        """The student's outputs for training sources, by index."""
        config, data = self.recipe.method.rollout, self.recipe.data
        limit = min(config.max_new_tokens or data.max_target_tokens, self.recipe.student.max_length - 1)
        return rollout(
            self.student,
            [self.setup.train.sources[index] for index in indices],
            self.setup.generation,
            config,
            max_new_tokens=limit,
            batch_tokens=FULL_BATCH_ROLLOUT * self.recipe.training.batch_tokens,
        )

    def _update(self, batch: Batch, contexts: Contexts, share: float, update: int) -> Step:
        rate = learning_rate(self.recipe.training, update, self.updates)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.student.train()
        device = self.accelerator.device
        positions, total = int(contexts.kept.sum()), 0.0
        pieces = list(cut_by_length(batch, contexts))
        for index, (part, ctx) in enumerate(pieces):
            part, ctx = part.to(device), Contexts(*(tensor.to(device) for tensor in ctx))
            last = index == len(pieces) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                with self.accelerator.autocast():
                    loss = self.loss(part, ctx) * (int(ctx.kept.sum()) / positions)
                self.accelerator.backward(loss)
            total += loss.item()
        self.accelerator.clip_grad_norm_(self.student.parameters(), self.recipe.training.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        own = 1.0 - float(contexts.labelled.float().mean())
        return Step(total, share, rate, own, positions)

    def loss(self, batch: Batch, contexts: Contexts) -> Tensor:
        """The method's loss on a batch of contexts (a scalar), over the tokens that may be generated."""
        features = self.model(batch.source, batch.source_mask, contexts.tokens)[contexts.kept]
        logits = self.student.project(features, self.tokens)
        if self.method.full:
            advice = self._advice(batch, contexts, torch.ones_like(contexts.labelled))
            return losses.full(logits, advice.float().softmax(dim=-1))
        labels = self.columns[contexts.labels]
        if not bool(contexts.labelled.all()):
            own = ~contexts.labelled
            labels[own[:, None] & contexts.kept] = self._advice(batch, contexts, own).argmax(dim=-1)
        return losses.hard(logits, labels[contexts.kept], self.recipe.method.label_smoothing)

    def _advice(self, batch: Batch, contexts: Contexts, rows: Tensor) -> Tensor:
        """The teacher's logits [positions of these rows, tokens]; ``rows`` bool [batch]."""
        teacher = self.setup.teacher
        assert teacher is not None  # the recipe's validation
        source, mask, kept = batch.source[rows], batch.source_mask[rows], contexts.kept[rows]
        return teacher.logits(source, mask, contexts.tokens[rows], kept, self.tokens)

    def evaluate(self) -> Scores:
        """Greedy dev score of the student."""
        dev, tokenizer = self.setup.dev, self.setup.tokenizer
        limit, eos = self.recipe.data.max_source_tokens, tokenizer.eos_id
        sources = [cut(tokenizer.encode_source(example.source), limit, eos) or [eos] for example in dev]
        outputs = rollout(
            self.student,
            sources,
            self.setup.generation,
            self.recipe.method.rollout.model_copy(update={"strategy": "greedy", "max_source_ratio": None}),
            max_new_tokens=self.setup.generation.max_new_tokens,
            batch_tokens=FULL_BATCH_ROLLOUT * self.recipe.training.batch_tokens,
        )
        references = [example.target or "" for example in dev]
        return score(self.recipe.task, [tokenizer.decode(tokens) for tokens in outputs], references)


def cut_by_length(batch: Batch, contexts: Contexts) -> Iterator[tuple[Batch, Contexts]]:
    """A batch in pieces whose contexts are of similar length, so that one long rollout does not pad all the others.

    A piece is worth its own call when it saves a good part of the decoder's work.
    """
    lengths = contexts.kept.sum(dim=1)
    order = lengths.argsort(stable=True)
    for rows in _pieces(order.tolist(), lengths[order].tolist()):
        index, width = torch.tensor(rows), int(lengths[rows].max())
        chosen = [batch.indices[row] for row in rows]
        target = None if batch.target is None else batch.target[index]
        part = Batch(batch.source[index], batch.source_mask[index], target, chosen)
        tokens, labels, kept = (tensor[index, :width] for tensor in contexts[:-1])
        yield part, Contexts(tokens, labels, kept, contexts.labelled[index])


def _pieces(rows: list[int], lengths: list[int]) -> list[list[int]]:
    """Cuts rows of ascending length where that saves at least a fifth of the padded positions; again in each half."""
    count = len(rows)
    whole = count * lengths[-1]
    costs = [(at * lengths[at - 1] + (count - at) * lengths[-1], at) for at in range(1, count)]
    best, at = min(costs, default=(whole, 0))
    if best >= WORTH_CUTTING * whole or whole < SMALLEST_PIECE:
        return [rows]
    return _pieces(rows[:at], lengths[:at]) + _pieces(rows[at:], lengths[at:])


def recipe_digest(recipe: Recipe) -> str:
    """What a checkpoint must agree with: all but where things lie and how the work is shared out."""
    elsewhere = {"data": {"root"}, "teacher": {"path"}, "training": {"threads", "checkpoint_minutes"}}
    return hashlib.sha256(recipe.model_dump_json(exclude=elsewhere).encode()).hexdigest()


def keep_memory() -> None:
    """Tells glibc to keep freed buffers: large ones are else handed back and faulted in again at every update."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:  # another libc keeps its own habits
        return
    libc.mallopt(-4, 0)  # M_MMAP_MAX: no buffer of its own mapping
    libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: never shrink


def _precision(recipe: Recipe) -> str:
    match recipe.training.precision:
        case "bf16":
            return "bf16"
        case "fp32":
            return "no"
        case _:
            if torch.cuda.is_available():
                return "bf16" if torch.cuda.is_bf16_supported() else "no"
            return "bf16" if {"avx512_bf16", "amx_bf16", "bf16"} & set(cpu()["features"]) else "no"
