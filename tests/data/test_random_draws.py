"""Keyed random numbers: SplitMix64's published outputs, and independence of keys."""

from __future__ import annotations

import numpy as np

from compressor.data.random_draws import Stream, _next, torch_seed, uniform


def test_a_hash_step_is_splitmix64() -> None:
    first = _next(np.array([1234567], dtype=np.uint64), 0)
    assert first.tolist() == [6457827717110365317]  # first output of the reference implementation with this seed


def test_numbers_are_uniform_and_uncorrelated_between_neighbouring_keys() -> None:
    numbers = uniform(Stream.COIN, 1, 0, range(20_000), count=2)
    counts = np.histogram(numbers, bins=20, range=(0.0, 1.0))[0]
    assert abs(counts - 2000).max() < 6 * np.sqrt(2000)
    neighbours = [
        uniform(Stream.COIN, 1, 1, range(20_000)),
        uniform(Stream.COIN, 2, 0, range(20_000)),
        uniform(Stream.ROLLOUT, 1, 0, range(20_000)),
        uniform(Stream.COIN, 1, 0, range(1, 20_001)),
        numbers[:, 1:],
    ]
    for other in neighbours:
        assert abs(np.corrcoef(numbers[:, 0], other[:, 0])[0, 1]) < 0.05


def test_a_number_depends_on_its_key_alone() -> None:
    whole = uniform(Stream.ROLLOUT, 3, [0] * 5 + [2] * 5, range(10), count=4)
    assert uniform(Stream.ROLLOUT, 3, 2, [9, 6], count=2).tolist() == whole[[9, 6], :2].tolist()
    assert torch_seed(Stream.DROPOUT, 1, 0, 5) != torch_seed(Stream.DROPOUT, 1, 0, 6)
