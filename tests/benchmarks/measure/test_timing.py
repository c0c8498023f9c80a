"""Order of turns, what a stopwatch reads, and percentiles against NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from benchmarks.measure.timing import interleave, median, percentile, repeat, stopwatch, summarize


def test_probes_take_turns_within_items_within_repeats() -> None:
    calls: list[tuple[str, int]] = []
    probes = {name: lambda item, name=name: calls.append((name, item)) or 1.0 for name in "AB"}
    interleave(probes, [1, 2], repeats=2, warmup=0)
    assert calls == [("A", 1), ("B", 1), ("A", 2), ("B", 2)] * 2


def test_a_turn_may_be_several_items() -> None:
    calls: list[str] = []
    probes = {name: lambda item, name=name: calls.append(f"{name}{item}") or float(item) for name in "AB"}
    samples = interleave(probes, [1, 2, 3], repeats=2, warmup=0, turn=2)
    assert calls == ["A1", "A2", "B1", "B2", "A3", "B3"] * 2
    assert samples == {name: [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]] for name in "AB"}


def test_samples_are_grouped_by_item_and_warm_up_does_not_count() -> None:
    numbers = itertools.count()
    steps: list[int] = []
    samples = interleave(
        {"A": lambda item: 10.0 * item + next(numbers)}, [1, 2], repeats=2, warmup=3, progress=lambda: steps.append(1)
    )
    assert samples == {"A": [[13.0, 15.0], [24.0, 26.0]]}  # calls 0 to 2 were the warm-up
    assert len(steps) == 3 + 4


def test_every_probe_is_warmed_up_before_any_counts() -> None:
    calls: list[str] = []
    probes = {name: lambda item, name=name: calls.append(f"{name}{item}") or 0.0 for name in "AB"}
    interleave(probes, [7, 8], repeats=1, warmup=3)
    assert calls == ["A7", "B7", "A8", "B8", "A7", "B7", "A7", "B7", "A8", "B8"]


@pytest.mark.parametrize(("items", "repeats"), [([], 1), ([1], 0)])
def test_nothing_to_measure_is_refused(items: list[int], repeats: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        interleave({"A": lambda item: 0.0}, items, repeats=repeats)


def test_a_stopwatch_reads_the_clock_around_the_action() -> None:
    now = 100.0

    def work(seconds: float) -> None:
        nonlocal now
        now += seconds

    probe = stopwatch(work, clock=lambda: now)
    assert (probe(0.25), probe(3.0)) == (0.25, 3.0)


@pytest.mark.parametrize("size", [1, 2, 3, 10, 101])
@pytest.mark.parametrize("q", [0, 1, 50, 90, 99, 100])
def test_percentile_is_numpys(size: int, q: float) -> None:
    values = np.random.default_rng(size).exponential(size=size)
    assert percentile(values.tolist(), q) == pytest.approx(float(np.percentile(values, q)), rel=1e-12)


def test_median_of_an_even_count_is_the_mean_of_the_middle() -> None:
    assert median([4.0, 1.0, 3.0, 2.0]) == 2.5


def test_a_summary_pools_calls_and_adds_medians() -> None:
    samples = [[1.0, 9.0, 2.0], [5.0, 4.0, 100.0]]
    summary = summarize(samples)
    pooled = np.array(samples).ravel()
    assert (summary.p50, summary.p90, summary.p99) == tuple(np.percentile(pooled, [50, 90, 99]))
    assert summary.total == 2.0 + 5.0  # one disturbed call of 100 s does not count in the throughput
    assert summary.calls == 6


@pytest.mark.parametrize(("seconds", "expected"), [(0.0, [1.0, 2.0, 3.0]), (10.0, [1.0, 2.0, 3.0, 4.0])])
def test_calls_are_repeated_until_they_have_taken_so_long(seconds: float, expected: list[float]) -> None:
    now, calls = [0.0], [0.0]

    def action() -> None:
        calls[0] += 1
        now[0] += calls[0]  # the first call takes a second, the next one two

    assert repeat(action, seconds, clock=lambda: now[0]) == expected
