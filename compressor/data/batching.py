"""Length-bucketed batches under a token budget, decided by seed, epoch and batches per update alone.

A pass over a large corpus is made in stretches: random parts of it that are changed (see ``augmentation``) and cut into
batches one after another, so that training need not wait for a whole pass.

Shapes: ``b`` rows of a batch, ``s`` longest source in it, ``t`` longest target in it (both in tokens).
A plan is made from lengths alone: 200,000 pairs take a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from compressor.batching import cut, pad
from compressor.data.token_rows import IntArray, TokenRows
from compressor.errors import DataError

__all__ = ["Batch", "Batches", "IntArray", "TokenRows", "plan_batches"]

STRETCH = 131_072
"""Examples of a stretch: enough for batches of equal lengths; to change a third of them takes seconds."""

Rows = tuple[TokenRows, TokenRows]
"""Sources and targets, by index in the corpus."""

Change = Callable[[TokenRows, TokenRows, int, IntArray], Rows]
"""Sources, targets, pass from 0, indices -> sources and targets in which these examples are as that pass has them."""


class Batch(NamedTuple):
    """Rows of similar length, padded on the right.

    Attributes:
        source: [b, s] int64.
        source_mask: [b, s] bool, True for a real token.
        target: [b, t] int64, padded after its EOS; None where the rows have no reference (never mixed in a batch).
        indices: position of each row in the corpus.
        visit: how often these rows were trained on before: passes over the corpus so far.
    """

    source: torch.Tensor
    source_mask: torch.Tensor
    target: torch.Tensor | None
    indices: list[int]
    visit: int = 0

    def to(self, device: torch.device | str) -> Batch:
        """Returns the batch with its tensors on ``device``."""
        target = None if self.target is None else self.target.to(device)
        return Batch(self.source.to(device), self.source_mask.to(device), target, self.indices, self.visit)


def plan_batches(
    source_lengths: IntArray,
    target_lengths: IntArray,
    *,
    max_tokens: int,
    seed: int = 0,
    epoch: int = 0,
    rank: int = 0,
    world_size: int = 1,
    accumulation: int = 1,
    stretch: int = 0,
) -> list[IntArray]:
    """Cuts a stretch of a corpus into batches of indices.

    Every index of the stretch is in exactly one batch of one shard. An update takes ``world_size * accumulation``
    batches, and the largest batches are halved until the count is a multiple of that. So an update has the same
    examples for any way to divide its batches among processes, and all processes make equally many updates.

    Args:
        source_lengths: [rows] tokens of each source.
        target_lengths: [rows] tokens of each target, 0 where there is none; such rows get batches of their own.
        max_tokens: most tokens of a batch's padded sources, and of its padded targets.
        seed: with ``epoch``, decides which rows of equal length meet in a batch, and the order of the batches.
        epoch: number of passes made before this one.
        rank: which shard to return.
        world_size: how many shards there are.
        accumulation: batches of a shard in an update.
        stretch: which part of the epoch, see ``stretches``.

    Raises:
        DataError: one example alone is over the budget, or there are fewer rows than shards.
    """
    _check_budget(source_lengths, target_lengths, max_tokens)
    rows, rng = _rows_of_stretch(len(source_lengths), seed, epoch, stretch)
    batches: list[IntArray] = []
    for group in (rows[target_lengths[rows] > 0], rows[target_lengths[rows] == 0]):
        ordered = _by_length(group, source_lengths, target_lengths)
        batches += _cut(ordered, source_lengths, target_lengths, max_tokens)
    _halve_until_divisible(batches, world_size * accumulation)
    return [batches[i] for i in rng.permutation(len(batches))[rank::world_size]]


def stretches(rows: int) -> int:
    """Returns how many stretches a pass over a corpus has."""
    return max(1, -(-rows // STRETCH))


def _rows_of_stretch(count: int, seed: int, epoch: int, stretch: int) -> tuple[IntArray, np.random.Generator]:
    """Returns indices of a corpus of ``count`` rows, and a generator for the order of their batches."""
    rng = np.random.default_rng([seed, epoch])
    rows = rng.permutation(count)
    return np.array_split(rows, stretches(count))[stretch], rng if stretch == 0 else rng.spawn(stretch)[-1]


def _check_budget(source_lengths: IntArray, target_lengths: IntArray, max_tokens: int) -> None:
    longest = np.maximum(source_lengths, target_lengths)
    if longest.max(initial=0) > max_tokens:
        index = int(longest.argmax())
        raise DataError(
            f"example {index + 1} has {int(longest[index])} tokens, more than the batch budget of {max_tokens}: "
            "raise the budget, or lower the length at which examples are dropped"
        )


def _by_length(rows: IntArray, source_lengths: IntArray, target_lengths: IntArray) -> IntArray:
    """Sorts by source, then target length; stable, so the permutation decides among equals.

    Target lengths run up and down by turns, so that a batch that spans two source lengths needs little target padding.
    """
    source, target = source_lengths[rows], target_lengths[rows]
    return rows[np.lexsort((np.where(source % 2 == 0, target, -target), source))]


def _cut(rows: IntArray, source_lengths: IntArray, target_lengths: IntArray, max_tokens: int) -> list[IntArray]:
    """Cuts sorted rows: both sides have the same budget, so the wider of the two decides."""
    widths = np.maximum(source_lengths[rows], target_lengths[rows]).tolist()
    return [rows[part] for part in cut(widths, max_tokens)]


def _halve_until_divisible(batches: list[IntArray], count: int) -> None:
    while len(batches) % count or not batches:
        largest = max(range(len(batches)), key=lambda i: len(batches[i]), default=-1)
        if largest < 0 or len(batches[largest]) < 2:
            raise DataError(
                f"{sum(map(len, batches))} examples are too few for {count} batches an update: "
                "add data, or start fewer processes, or accumulate fewer batches"
            )
        batch = batches[largest]
        batches[largest] = batch[: len(batch) // 2]
        batches.append(batch[len(batch) // 2 :])


class Batches:
    """The batches of a tokenized corpus, epoch by epoch.

    Args:
        sources: token ids of every source.
        targets: token ids of every target (ending with EOS), empty where there is none; None for no targets at all.
        pad_id: fills the rows of a batch; the mask, not this id, says what is real.
        max_tokens: budget, see `plan_batches`.
        seed: seed of the order.
        rank: this process.
        world_size: number of processes.
        accumulation: batches of a process in an update.
        change: changes a stretch of a pass; None: every pass has the corpus itself.
    """

    def __init__(
        self,
        sources: TokenRows,
        targets: TokenRows | None,
        *,
        pad_id: int,
        max_tokens: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        accumulation: int = 1,
        change: Change | None = None,
    ) -> None:
        if targets is not None and len(sources) != len(targets):
            raise DataError(f"{len(sources)} sources but {len(targets)} targets: they must correspond one to one")
        if len(sources) and not sources.lengths.all():
            raise DataError(f"source {int(sources.lengths.argmin()) + 1} has no tokens: drop it before batching")
        self.sources = sources
        self.targets = targets if targets is not None else TokenRows([None] * len(sources))
        self.pad_id, self.max_tokens, self.seed = pad_id, max_tokens, seed
        self.rank, self.world_size, self.accumulation, self.change = rank, world_size, accumulation, change
        self.stretches = stretches(len(sources))
        """Stretches of a pass."""
        self._now: tuple[tuple[int, int], Rows] | None = None
        self._next: tuple[tuple[int, int], Future[Rows]] | None = None
        self._thread = ThreadPoolExecutor(1)

    def close(self) -> None:
        """Ends the thread that makes stretches; the one that it makes is thrown away."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def plan(self, epoch: int = 0, stretch: int = 0) -> list[IntArray]:
        """The index batches of a stretch of an epoch, for this process."""
        sources, targets = self._rows(epoch, stretch)
        return plan_batches(
            sources.lengths,
            targets.lengths,
            max_tokens=self.max_tokens,
            seed=self.seed,
            epoch=epoch,
            rank=self.rank,
            world_size=self.world_size,
            accumulation=self.accumulation,
            stretch=stretch,
        )

    def in_a_pass(self) -> int:
        """Returns how many batches of this process a pass has, as many in every stretch as in the first."""
        return len(self.plan()) * self.stretches

    def epoch(self, epoch: int = 0) -> Iterator[Batch]:
        """Yields the batches of one epoch."""
        for stretch in range(self.stretches):
            yield from self.stretch(epoch, stretch)

    def stretch(self, epoch: int, stretch: int, start: int = 0) -> Iterator[Batch]:
        """Yields the batches of a stretch, from batch ``start`` on (where an interrupted run stopped)."""
        plan = self.plan(epoch, stretch)
        self._prepare_next(epoch, stretch)
        for indices in plan[start:]:
            yield self.collate(indices.tolist(), epoch, stretch)

    def collate(self, indices: list[int], epoch: int = 0, stretch: int = 0) -> Batch:
        """Pads rows of a stretch into one `Batch`; all have a target, or none has."""
        sources, targets = self._rows(epoch, stretch)
        source, mask = pad([sources[i] for i in indices], self.pad_id)
        target = None
        if targets.lengths[indices].all():
            target = torch.from_numpy(pad([targets[i] for i in indices], self.pad_id)[0])
        return Batch(torch.from_numpy(source), torch.from_numpy(mask), target, indices, epoch)

    def _rows(self, epoch: int, stretch: int) -> Rows:
        """Sources and targets of a stretch; those of the last one asked for stay in memory."""
        if self.change is None:
            return self.sources, self.targets
        if self._now is None or self._now[0] != (epoch, stretch):
            ready = self._next is not None and self._next[0] == (epoch, stretch)
            rows = self._next[1].result() if self._next and ready else self._make(self.change, epoch, stretch)
            self._now = ((epoch, stretch), rows)
        return self._now[1]

    def _prepare_next(self, epoch: int, stretch: int) -> None:
        """Begins to make the stretch that comes next, beside training."""
        if self.change is not None and self.stretches > 1:
            following = (epoch, stretch + 1) if stretch + 1 < self.stretches else (epoch + 1, 0)
            self._next = (following, self._thread.submit(self._make, self.change, *following))

    def _make(self, change: Change, epoch: int, stretch: int) -> Rows:
        indices, _ = _rows_of_stretch(len(self.sources), self.seed, epoch, stretch)
        return change(self.sources, self.targets, epoch, indices)
