"""Batching: properties that hold for any lengths, checked over many random corpora."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from compressor.data import batching
from compressor.data.batching import (
    Batches,
    TokenRows,
    pad,
    plan_batches,
)
from compressor.errors import DataError


def corpus(seed: int, rows: int = 300, mono: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    source, target = rng.integers(1, 40, rows), rng.integers(1, 40, rows)
    target[:mono] = 0
    return source, target


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_processes_get_each_index_once_and_equal_batch_counts(seed: int, world_size: int) -> None:
    source, target = corpus(seed, mono=60)
    shards = [
        plan_batches(source, target, max_tokens=100, seed=seed, epoch=2, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert len({len(shard) for shard in shards}) == 1
    assert sorted(i for shard in shards for batch in shard for i in batch) == list(range(300))


@pytest.mark.parametrize("seed", range(5))
def test_budget_holds_on_both_sides_of_the_padded_batch(seed: int) -> None:
    source, target = corpus(seed, mono=60)
    for batch in plan_batches(source, target, max_tokens=90, seed=seed):
        assert len(batch) * max(source[i] for i in batch) <= 90
        assert len(batch) * max(target[i] for i in batch) <= 90
        assert len({target[i] == 0 for i in batch}) == 1  # with and without reference never meet


def test_order_depends_on_seed_and_epoch_alone() -> None:
    lengths = corpus(0)

    def order(seed: int, epoch: int) -> list[list[int]]:
        return [batch.tolist() for batch in plan_batches(*lengths, max_tokens=100, seed=seed, epoch=epoch)]

    assert order(1, 1) == order(1, 1)
    assert order(1, 1) != order(1, 2)
    assert order(1, 1) != order(2, 1)


def test_batches_contain_little_padding() -> None:
    rng = np.random.default_rng(0)
    source = rng.integers(3, 30, 20_000)
    target = np.maximum(1, source + rng.integers(-4, 5, 20_000))
    plan = plan_batches(source, target, max_tokens=2000)
    assert sum(len(batch) * source[batch].max() for batch in plan) < 1.05 * source.sum()
    assert sum(len(batch) * target[batch].max() for batch in plan) < 1.1 * target.sum()


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ([3, 50], {"max_tokens": 20}, "example 2 has 50 tokens, more than the batch budget of 20"),
        ([3], {"max_tokens": 20, "world_size": 2}, "1 examples are too few for 2"),
        ([], {"max_tokens": 20}, "0 examples are too few"),
    ],
)
def test_unbatchable_rows_are_refused(source: list[int], options: dict[str, int], message: str) -> None:
    lengths = np.asarray(source, dtype=np.int64)
    with pytest.raises(DataError, match=message):
        plan_batches(lengths, lengths, **options)


def test_pad_returns_ids_and_mask() -> None:
    ids, mask = pad([[5, 6, 7], [0], []], pad_id=0)
    assert ids.tolist() == [[5, 6, 7], [0, 0, 0], [0, 0, 0]]
    assert mask.tolist() == [[True] * 3, [True, False, False], [False] * 3]  # a real token may have the id of padding
    assert ids.dtype == np.int64


def test_token_rows_return_the_given_rows() -> None:
    rows = [[1, 2], None, [3], [4, 5, 6]]
    stored = TokenRows(rows)
    assert [row.tolist() for row in (stored[i] for i in range(4))] == [row or [] for row in rows]
    assert stored.lengths.tolist() == [2, 0, 1, 3]


def test_batches_hold_the_rows_that_their_indices_name() -> None:
    sources = [[i + 1] * (i % 5 + 1) for i in range(40)]
    targets = [[i + 100] * (i % 3 + 1) if i % 4 else None for i in range(40)]
    batches = Batches(TokenRows(sources), TokenRows(targets), pad_id=0, max_tokens=12)
    seen = []
    for batch in batches.epoch(0):
        seen += batch.indices
        for row, index in enumerate(batch.indices):
            assert batch.source[row][batch.source_mask[row]].tolist() == sources[index]
            if batch.target is None:
                assert targets[index] is None
            else:
                assert [i for i in batch.target[row].tolist() if i] == targets[index]
    assert sorted(seen) == list(range(40))
    assert batch.source.dtype == torch.int64


def test_an_epoch_resumes_where_it_stopped() -> None:
    batches = Batches(TokenRows([[1] * (i % 9 + 1) for i in range(100)]), None, pad_id=0, max_tokens=30, seed=4)
    whole = [batch.indices for batch in batches.epoch(3)]
    assert [batch.indices for batch in batches.stretch(3, 0, start=5)] == whole[5:]


def test_stretches_of_a_pass_have_each_row_once_and_are_changed_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "STRETCH", 30)
    asked = []

    def change(sources: TokenRows, targets: TokenRows, visit: int, indices: np.ndarray) -> tuple[TokenRows, TokenRows]:
        asked.append((visit, sorted(indices.tolist())))
        marked = [[100 + visit] if row in indices else sources[row].tolist() for row in range(100)]
        return TokenRows(marked), targets

    rows = TokenRows([[1] * (row % 9 + 1) for row in range(100)])
    batches = Batches(rows, None, pad_id=0, max_tokens=30, seed=4, change=change)
    assert batches.stretches == 4
    for epoch in range(2):
        parts = [list(batches.stretch(epoch, stretch)) for stretch in range(4)]
        seen = [sorted(index for batch in part for index in batch.indices) for part in parts]
        assert [len(part) for part in seen] == [25] * 4 and sorted(index for part in seen for index in part) == list(
            range(100)
        )
        assert all(set(batch.source.flatten().tolist()) == {100 + epoch} for part in parts for batch in part)
        assert sorted(asked)[4 * epoch : 4 * epoch + 4] == sorted((epoch, part) for part in seen)
    assert batches.in_a_pass() == 4 * len(batches.plan(0, 0))


def test_sources_and_targets_must_correspond() -> None:
    with pytest.raises(DataError, match="2 sources but 1 targets"):
        Batches(TokenRows([[1], [2]]), TokenRows([[1]]), pad_id=0, max_tokens=9)
    with pytest.raises(DataError, match="source 2 has no tokens"):
        Batches(TokenRows([[1], []]), None, pad_id=0, max_tokens=9)
