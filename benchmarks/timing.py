"""Interleaved timing: A B A B ..., so that whatever else the machine does falls on every contender alike.

A turn may be several calls: a model in use is called again and again, and one whose turn is a single call finds the
caches full of the other's weights every time.

Nothing here knows what is measured. A *probe* does one piece of work and returns the seconds that it took; how it
takes them (a stopwatch here, one in another process) is its own affair.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")
Name = TypeVar("Name", bound=Hashable)
Probe = Callable[[Item], float]
Clock = Callable[[], float]


def stopwatch(action: Callable[[Item], object], clock: Clock = time.perf_counter) -> Probe[Item]:
    """A probe that runs ``action`` and reads ``clock`` (seconds) before and after it."""

    def probe(item: Item) -> float:
        start = clock()
        action(item)
        return clock() - start

    return probe


def interleave(
    probes: Mapping[Name, Probe[Item]],
    items: Sequence[Item],
    *,
    repeats: int,
    warmup: int = 1,
    turn: int = 1,
    progress: Callable[[], object] = lambda: None,
) -> dict[Name, list[list[float]]]:
    """Runs every probe on every item, the probes taking turns.

    The order is: for each repeat, for each ``turn`` items, for each probe, for each of these items. So two probes on
    one item are close in time, and the repeats of one item are far apart.

    Args:
        probes: What is compared, by name.
        items: The pieces of work, the same for every probe.
        repeats: Measured passes over the items.
        warmup: Calls of each probe that are not counted, on the first items in turn.
        turn: Items that a probe works on before it is the next one's turn.
        progress: Called after every call, the ones not counted included.

    Returns:
        Seconds by name, one list of ``repeats`` samples for each item.
    """
    if repeats < 1 or not items:
        raise ValueError("interleave needs at least one item and one repeat")
    for call in range(warmup):
        for probe in probes.values():
            probe(items[call % len(items)])
            progress()
    samples: dict[Name, list[list[float]]] = {name: [[] for _ in items] for name in probes}
    for _ in range(repeats):
        for start in range(0, len(items), turn):
            for name, probe in probes.items():
                for index in range(start, min(start + turn, len(items))):
                    samples[name][index].append(probe(items[index]))
                    progress()
    return samples


def repeat(action: Callable[[], object], seconds: float, clock: Clock = time.perf_counter) -> list[float]:
    """Seconds of each call of ``action``, called again and again until all have taken so long, at least three times."""
    probe, calls = stopwatch(lambda _: action(), clock), list[float]()
    while len(calls) < 3 or sum(calls) < seconds:
        calls.append(probe(None))
    return calls


def percentile(values: Sequence[float], q: float) -> float:
    """The q-th percentile (0 to 100), linear between the two nearest samples (NumPy's default)."""
    ordered = sorted(values)
    rank = (len(ordered) - 1) * q / 100
    low = math.floor(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


def median(values: Sequence[float]) -> float:
    """The 50th percentile."""
    return percentile(values, 50)


@dataclass(frozen=True)
class Summary:
    """What the samples of one probe say. ``p50``, ``p90``, ``p99`` are seconds a call; ``total`` is seconds a pass."""

    p50: float
    p90: float
    p99: float
    total: float
    calls: int


def summarize(samples: Sequence[Sequence[float]]) -> Summary:
    """Summarises samples grouped by item, as `interleave` returns them.

    Percentiles are over all calls: items differ (sentences have lengths), and a user meets that spread. The time of a
    pass is the sum of each item's median, so that one disturbed call does not weigh on the throughput.
    """
    calls = list(_flat(samples))
    return Summary(
        p50=percentile(calls, 50),
        p90=percentile(calls, 90),
        p99=percentile(calls, 99),
        total=sum(median(group) for group in samples),
        calls=len(calls),
    )


def _flat(samples: Sequence[Sequence[float]]) -> Iterator[float]:
    for group in samples:
        yield from group
