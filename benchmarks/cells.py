"""One cell: the same weights in every engine, each at its best setting, on a number of sentences at a time.

Every engine first tries its settings (threads inside an operator, batches at a time, size of these batches) and keeps
the fastest; then all take turns.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.engines import EngineName, EngineSpec
from benchmarks.latency import ROW_KEYS, Row, batches
from benchmarks.timing import summarize
from benchmarks.worker import Connect, EngineStopped, Host
from compressor.bundle import SHORTLIST, base_precision
from compressor.errors import ModelError

CELL = ("shape", "data", "batch_size", "num_beams")
"""The keys of a row that say which cell it is of."""
KEYS = ("shape", "data", *ROW_KEYS, "inter_threads", "max_batch_size", "source_tokens", "target_tokens",
        "length_drift", "shortlist", "load_s")  # fmt: skip
"""All keys of a row."""
CALLS = 32
"""Different batches in a cell, at most."""
TEACHER_BEAMS = 5
_WORKERS = {"onnx", "ctranslate2", "marian"}
"""Engines that work on several batches at a time."""


class Effort(NamedTuple):
    """How long is measured."""

    tried_s: float = 0.4
    """Seconds of a turn in which a setting is tried: of all batches, as many as fit."""
    rounds: int = 5
    turn_s: float = 0.4
    """Least seconds of a turn: as many calls as it takes."""
    longest_s: float = 4.0
    """An engine has fewer rounds once all its calls of a cell have taken so long."""
    pause_s: float = 0.2
    """Before a turn, where the one before had several threads: they wait busily for a while."""


QUICK = Effort(tried_s=0.05, rounds=2, turn_s=0.05, longest_s=2.0)
_TRIES, _LONG_S = 3, 1.0
"""Turns of a setting, and seconds of a call that is tried once."""


class Setting(NamedTuple):
    """How an engine uses the processors."""

    intra_threads: int
    inter_threads: int
    max_batch_size: int | None


class Model(NamedTuple):
    """What is measured in one shape: where its forms are, and on what."""

    shape: str
    specs: list[EngineSpec]
    texts: dict[str, list[str]]
    """By the name of the data; every one of them is as good as another."""
    count_tokens: Callable[[str], int]
    """Of a source, end of sentence included."""
    references: dict[str, list[str]]
    """Of all texts, where there are some."""


class Hosts:
    """The hosts of a shape, opened when they are first needed, and closed together."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._hosts: dict[tuple[str, int, int, int], Host] = {}

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *error: object) -> None:
        for host in self._hosts.values():
            host.close()

    def host(self, spec: EngineSpec, setting: Setting, num_beams: int) -> Host:
        """The host of a contender with so many threads; for ours, of that search alone, as a user would have it."""
        beams = num_beams if spec.engine == "onnx" else 1
        key = (spec.name, setting.intra_threads, setting.inter_threads, beams)
        if key not in self._hosts:
            spec = spec.model_copy(update={"inter_threads": setting.inter_threads, "num_beams": beams})
            self._hosts[key] = self._connect(spec, setting.intra_threads)
        return self._hosts[key]


class Contender(NamedTuple):
    """An engine in a cell, at the setting that is best there."""

    spec: EngineSpec
    num_beams: int
    host: Host
    setting: Setting
    seconds: float
    """A call takes, about."""

    def translate(self, texts: Sequence[str]) -> tuple[float, int]:
        """Seconds of a call, and the tokens it made."""
        size = self.setting.max_batch_size
        reply = self.host.translate(texts, self.num_beams, **({} if size is None else {"max_batch_size": size}))
        return reply.seconds, sum(reply.tokens)


def settings(engine: EngineName, batch_size: int, cores: int) -> list[Setting]:
    """What an engine tries in a cell: one thread, all of them in one operator, and as many batches at a time."""
    found = [Setting(1, 1, None)]
    if cores > 1 and engine != "marian":
        found.append(Setting(cores, 1, None))
    if cores > 1 and engine in _WORKERS and batch_size > 1:
        share = -(-batch_size // cores)
        sizes = {max(1, share // part) for part in ((1, 2, 4) if batch_size >= 32 else (1,))}
        found += [Setting(1, cores, size) for size in sorted(sizes)]
    return found


def measure_cell(
    model: Model, data: str, batch_size: int, num_beams: int, hosts: Hosts, effort: Effort, cores: int
) -> list[Row]:
    """The rows of a cell; a peer that stops has none."""
    work = batches(model.texts[data], batch_size)[:CALLS]
    contenders = []
    for spec in model.specs:
        try:
            contenders.append(_tuned(spec, work, num_beams, hosts, effort, cores))
        except EngineStopped as error:
            if spec.engine == "onnx":
                raise
            print(f"{model.shape} {data}, batch {batch_size}, beams {num_beams}: {error}", file=sys.stderr)
    return _in_turns(model, data, contenders, work, effort)


def measure_factor(model: Model, data: str, hosts: Hosts, effort: Effort, cores: int) -> list[Row]:
    """The factor that a user gains over the best engine, one sentence a call, each at its best setting, in turns.

    The greedy student in int8, and its teacher with five beams in CTranslate2. No rows where either is missing.
    """
    students = [spec for spec in model.specs if (spec.engine, spec.precision) == ("onnx", "int8")]
    teachers = [spec for spec in model.specs if (spec.model, spec.engine) == ("teacher", "ctranslate2")]
    if not (students and teachers):
        return []
    work = batches(model.texts[data], 1)[:CALLS]
    sides = [*((spec, 1) for spec in students), *((spec, TEACHER_BEAMS) for spec in teachers)]
    contenders = [_tuned(spec, work, num_beams, hosts, effort, cores) for spec, num_beams in sides]
    return _in_turns(model, data, contenders, work, effort._replace(longest_s=math.inf))


def _tuned(
    spec: EngineSpec, work: Sequence[list[str]], num_beams: int, hosts: Hosts, effort: Effort, cores: int
) -> Contender:
    """At its fastest setting: they take turns, and each is given the same batches."""
    tried = settings(spec.engine, len(work[0]), cores)
    contenders = [Contender(spec, num_beams, hosts.host(spec, one, num_beams), one, 0.0) for one in tried]
    first = [one.translate(work[0])[0] for one in contenders]  # it allocates: of a long call, a small part
    work = work[: max(1, int(effort.tried_s / min(first)))]
    totals = first
    if min(first) <= _LONG_S:
        samples = [[list[float]() for _ in work] for _ in contenders]
        for _ in range(_TRIES):
            for one, found in zip(contenders, samples, strict=True):
                for texts, calls in zip(work, found, strict=True):
                    calls.append(one.translate(texts)[0])
                time.sleep(effort.pause_s if one.setting.intra_threads > 1 else 0.0)
        totals = [summarize(found).total for found in samples]
    best = min(range(len(tried)), key=totals.__getitem__)
    return contenders[best]._replace(seconds=totals[best] / len(work))


def _in_turns(
    model: Model, data: str, contenders: Sequence[Contender], work: Sequence[list[str]], effort: Effort
) -> list[Row]:
    """A row for each contender; all translate the same batches.

    Raises:
        ModelError: outputs are not as long as they were forced to be.
    """
    samples: dict[str, list[list[float]]] = {one.spec.name: [[] for _ in work] for one in contenders}
    tokens: dict[str, list[int]] = {one.spec.name: [0] * len(work) for one in contenders}
    spent = dict.fromkeys(samples, 0.0)
    for one in contenders:
        one.host.reset_peak()
    for _ in range(effort.rounds):
        spinning = False
        for one in contenders:
            name = one.spec.name
            if spent[name] >= effort.longest_s:
                continue
            time.sleep(effort.pause_s if spinning else 0.0)
            for _ in range(max(1, min(8, round(effort.turn_s / (one.seconds * len(work)))))):
                for index, texts in enumerate(work):
                    seconds, tokens[name][index] = one.translate(texts)
                    samples[name][index].append(seconds)
                    spent[name] += seconds
            spinning = one.setting.intra_threads > 1
    counts = {one.spec.name: sum(tokens[one.spec.name]) for one in contenders}
    texts = [text for batch in work for text in batch]
    for one in contenders:
        limit, found = one.spec.max_new_tokens, counts[one.spec.name]
        if limit and found != limit * len(texts):
            raise ModelError(f"{one.spec.name} wrote {found} tokens for {len(texts)} texts, not {limit} for each")
    cell = {
        "shape": model.shape,
        "data": data,
        "batch_size": len(work[0]),
        "source_tokens": round(sum(map(model.count_tokens, texts)) / len(texts), 2),
    }
    return [cell | _row(one, samples[one.spec.name], counts, len(texts)) for one in contenders]


def _row(one: Contender, samples: list[list[float]], counts: dict[str, int], sentences: int) -> Row:
    spec, info, summary = one.spec, one.host.info, summarize(samples)
    own = counts[spec.name]
    reference = counts.get(f"{spec.model} onnx fp32") or counts.get(f"{spec.model} ctranslate2 fp32") or own
    return {
        "engine": spec.engine,
        "model": spec.model,
        "precision": base_precision(spec.precision),
        "num_beams": one.num_beams,
        "intra_threads": one.setting.intra_threads,
        "inter_threads": one.setting.inter_threads,
        "max_batch_size": one.setting.max_batch_size,
        "p50_ms": round(summary.p50 * 1e3, 4),
        "p90_ms": round(summary.p90 * 1e3, 4),
        "p99_ms": round(summary.p99 * 1e3, 4),
        "sentences_per_s": round(sentences / summary.total, 2),
        "tokens_per_s": round(reference / summary.total, 1),
        "target_tokens": round(reference / sentences, 2),
        "length_drift": round(own / reference - 1, 4),
        "memory_mb": round(one.host.memory_mb(), 1),
        "size_mb": round(info.size_mb, 2),
        "load_s": round(info.load_s, 3),
        "parameters": info.parameters,
        "shortlist": spec.precision.endswith(SHORTLIST),
    }


def with_speedup(rows: Sequence[Row]) -> list[Row]:
    """Rows with ``speedup``: p50 of the student in transformers, fp32, over the row's, in the same cell."""
    base = {
        tuple(row[key] for key in CELL): row["p50_ms"]
        for row in rows
        if (row["model"], row["engine"], row["precision"]) == ("student", "transformers", "fp32")
    }
    done = []
    for row in rows:
        other = base.get(tuple(row[key] for key in CELL))
        speedup = None if other is None else round(other / row["p50_ms"], 2)
        done.append(dict.fromkeys(KEYS) | row | {"speedup": speedup})
    return done
