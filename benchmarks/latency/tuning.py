"""The fastest setting of an engine in a cell: threads inside an operator, batches at a time, size of these batches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from benchmarks.engines.base import EngineSpec
from benchmarks.engines.registry import ENGINES
from benchmarks.latency.grid import Batch, Contender, Hosts, Setting
from benchmarks.measure.timing import Pace, interleave, summarize

TRIES = 3
"""Turns of each setting."""
LONG_CALL_S = 1.0
"""A call that takes longer is tried once."""


class Effort(NamedTuple):
    """How long the peers are measured."""

    tried_s: float = 0.4
    """Seconds of a turn in which a setting is tried: as many of the batches as fit, at least one."""
    rounds: int = 5
    turn_s: float = 0.4
    """Least seconds of a turn, unless that takes more than `MOST_PASSES` passes over the batches."""
    longest_s: float = 4.0
    """An engine has no more rounds once all its calls of a cell have taken that many seconds."""
    pause_s: float = 0.2
    """Before a turn after an engine with several threads, which wait busily for a while."""


QUICK = Effort(tried_s=0.05, rounds=2, turn_s=0.05, longest_s=2.0)
MOST_PASSES = 8


def settings(engine: str, batch_size: int, cores: int) -> list[Setting]:
    """The settings to try in a cell: one thread, all threads in one operator, and as many batches at a time."""
    descriptor = ENGINES[engine]
    tried = [Setting(1)]
    if cores > 1 and descriptor.operator_threads:
        tried.append(Setting(cores))
    if cores > 1 and descriptor.parallel_batches and batch_size > 1:
        share = -(-batch_size // cores)
        sizes = {max(1, share // part) for part in ((1, 2, 4) if batch_size >= 32 else (1,))}
        tried += [Setting(1, cores, size) for size in sorted(sizes)]
    return tried


def tune(
    spec: EngineSpec, work: Sequence[Batch], num_beams: int, hosts: Hosts, effort: Effort, cores: int
) -> tuple[Contender, float]:
    """The engine at its fastest setting, and the seconds of a call; settings take turns on the same batches."""
    tried = settings(spec.engine, len(work[0]), cores)
    contenders = [Contender(spec, hosts.host(spec, one, num_beams), num_beams, one) for one in tried]
    first = [one.translate(work[0])[0] for one in contenders]  # includes allocations, which a long call outweighs
    work = work[: max(1, int(effort.tried_s / min(first)))]
    totals = first if min(first) > LONG_CALL_S else _totals(contenders, work, effort)
    best = min(range(len(tried)), key=totals.__getitem__)
    return contenders[best], totals[best] / len(work)


def _totals(contenders: Sequence[Contender], work: Sequence[Batch], effort: Effort) -> list[float]:
    """Seconds of a pass over the batches, by contender."""

    def probe(one: Contender, batch: Batch) -> float:
        return one.translate(batch)[0]

    probes = {index: partial(probe, one) for index, one in enumerate(contenders)}
    paces = {index: pace(one, effort) for index, one in enumerate(contenders)}
    samples = interleave(probes, work, repeats=TRIES, warmup=0, turn=len(work), paces=paces)
    return [summarize(samples[index]).total for index in probes]


def pace(one: Contender, effort: Effort, pass_s: float | None = None) -> Pace:
    """How a contender takes its turns: once, or for ``effort.turn_s`` where the seconds of a pass are given."""
    passes = 1 if pass_s is None else max(1, min(MOST_PASSES, round(effort.turn_s / pass_s)))
    return Pace(passes, effort.pause_s if one.setting.intra_threads > 1 else 0.0)
