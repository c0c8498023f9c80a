"""Padding and length bucketing."""

from __future__ import annotations

import math

import pytest

from compressor.batching import bucket_by_length


@pytest.mark.parametrize("batch_tokens", [1, 10, 64, 10_000])
@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_buckets_keep_the_token_budget(batch_tokens: int, batch_size: int | None) -> None:
    lengths = [3, 9, 1, 9, 30, 2, 2, 7, 12, 4]
    batches = bucket_by_length(lengths, batch_tokens, batch_size)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= (batch_size or math.inf)
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= batch_tokens
    longest = [lengths[batch[0]] for batch in batches]
    assert longest == sorted(longest, reverse=True)
    assert bucket_by_length([], 10) == []
