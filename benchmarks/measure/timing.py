"""Interleaved timing: probes take turns (A B A B ...), so that disturbances of the machine fall on all alike.

A turn may be several calls: a model in use is called again and again, and a turn of one call would find the caches full
of another model's weights every time.

Nothing here knows what is measured. A *probe* does one piece of work and returns the seconds that it took, by a clock
here or in another process.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, TypeVar

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


class Pace(NamedTuple):
    """How one probe takes its turns.

    Attributes:
        passes: How often it works through the items of a turn.
        pause_s: Seconds before the next probe's turn: threads of some libraries wait busily after a call.
    """

    passes: int = 1
    pause_s: float = 0.0


def interleave(
    probes: Mapping[Name, Probe[Item]],
    items: Sequence[Item],
    *,
    repeats: int,
    warmup: int = 1,
    turn: int = 1,
    paces: Mapping[Name, Pace] = MappingProxyType({}),
    budget_s: float = math.inf,
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
        paces: How a probe takes its turns, where it is not once and without a pause.
        budget_s: A probe whose calls have taken that many seconds has no more repeats.
        progress: Called after every call, the ones not counted included.

    Returns:
        Seconds by name, a list of samples for each item; ``repeats`` of them unless paces or budget say otherwise.
    """
    if repeats < 1 or not items:
        raise ValueError("interleave needs at least one item and one repeat")
    for call in range(warmup):
        for probe in probes.values():
            probe(items[call % len(items)])
            progress()
    samples: dict[Name, list[list[float]]] = {name: [[] for _ in items] for name in probes}
    pause = 0.0
    for _ in range(repeats):
        going = [name for name in probes if sum(map(sum, samples[name])) < budget_s]
        for start in range(0, len(items), turn):
            indices = range(start, min(start + turn, len(items)))
            for name in going:
                time.sleep(pause)
                pace = paces.get(name, Pace())
                for index in [*indices] * pace.passes:
                    samples[name][index].append(probes[name](items[index]))
                    progress()
                pause = pace.pause_s
    return samples


def repeat(action: Callable[[], object], seconds: float, clock: Clock = time.perf_counter) -> list[float]:
    """Seconds of each call of ``action``, called at least three times and until all calls took ``seconds`` in total."""
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


def growth(values: Sequence[float]) -> float:
    """Returns the median of the last tenth over that of the second tenth, less 1; the first tenth is warm-up."""
    tenth = max(1, len(values) // 10)
    return median(values[-tenth:]) / median(values[tenth : 2 * tenth] or values[:1]) - 1


@dataclass(frozen=True)
class Summary:
    """Statistics of one probe. ``p50``, ``p90``, ``p99`` are seconds a call; ``total`` is seconds a pass."""

    p50: float
    p90: float
    p99: float
    total: float
    calls: int


def summarize(samples: Sequence[Sequence[float]]) -> Summary:
    """Statistics of samples grouped by item, as `interleave` returns them.

    Percentiles are over all calls: items differ in length, and users meet that spread. The time of a pass is the sum
    of each item's median, so that one disturbed call does not change the throughput.
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
    """Yields the samples of all groups."""
    for group in samples:
        yield from group
