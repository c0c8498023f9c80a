"""One cell of a grid: contenders take turns on the same batches, and each becomes a row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from benchmarks.engines.base import EngineSpec
from benchmarks.engines.process import Connect, Host, Info
from benchmarks.engines.registry import BASELINE, ENGINES
from benchmarks.measure.result_file import Row
from benchmarks.measure.timing import Pace, Summary, interleave, summarize
from benchmarks.quality.evaluate import COUNT_KEYS
from compressor.bundle import SHORTLIST
from compressor.errors import DataError

QUALITY_KEYS = ("bleu", "chrf", "rouge_l", "signature")
ROW_KEYS = (
    "engine", "model", "precision", "batch_size", "num_beams", "intra_threads", "p50_ms", "p90_ms", "p99_ms",
    "sentences_per_s", "tokens_per_s", "memory_mb", "size_mb", "parameters", *QUALITY_KEYS, *COUNT_KEYS,
    "speedup",
)  # fmt: skip
"""Keys of every published row."""

Batch = list[str]


class Setting(NamedTuple):
    """How an engine uses the processors: threads inside an operator, batches at a time, and the size of these."""

    intra_threads: int
    inter_threads: int = 1
    max_batch_size: int | None = None


class Contender(NamedTuple):
    """A loaded engine with the search and the setting that it is measured in."""

    spec: EngineSpec
    host: Host
    num_beams: int
    setting: Setting

    def translate(self, texts: Sequence[str]) -> tuple[float, int]:
        """Translates one batch; returns the seconds and the generated tokens."""
        size = self.setting.max_batch_size
        reply = self.host.translate(texts, self.num_beams, **({} if size is None else {"max_batch_size": size}))
        return reply.seconds, sum(reply.tokens)


class Measured(NamedTuple):
    """The measurements of one contender in one cell. ``tokens``: generated in one pass over the batches."""

    contender: Contender
    summary: Summary
    tokens: int
    memory_mb: float


class Hosts:
    """Opens engines when they are first asked for, one for each specification, setting and search; closes them all."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._hosts: dict[tuple[str, int, int, int], Host] = {}

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *error: object) -> None:
        for host in self._hosts.values():
            host.close()

    def host(self, spec: EngineSpec, setting: Setting, num_beams: int = 1) -> Host:
        """The host of a contender; an engine that loads one search loads the one with ``num_beams``."""
        beams = num_beams if ENGINES[spec.engine].loads_one_search else 1
        key = (spec.name, setting.intra_threads, setting.inter_threads, beams)
        if key not in self._hosts:
            spec = spec.model_copy(update={"inter_threads": setting.inter_threads, "num_beams": beams})
            self._hosts[key] = self._connect(spec, setting.intra_threads)
        return self._hosts[key]


def spread(texts: Sequence[str], count: int) -> list[str]:
    """``count`` non-blank texts (or all, if fewer), evenly spaced, so that a file's order does not choose them.

    Raises:
        DataError: there is none.
    """
    real = [text for text in texts if text.strip()]
    if not real:
        raise DataError("there is no text in the source but blank lines: nothing can be timed")
    count = min(count, len(real))
    return [real[index * len(real) // count] for index in range(count)]


def batches(sentences: Sequence[str], size: int) -> list[Batch]:
    """Full batches in the given order; an incomplete last one is dropped, and too few sentences are repeated."""
    if len(sentences) < size:
        return [[sentences[index % len(sentences)] for index in range(size)]]
    return [list(sentences[start : start + size]) for start in range(0, len(sentences) - size + 1, size)]


def measure(
    contenders: Sequence[Contender],
    work: Sequence[Batch],
    *,
    repeats: int,
    turn: int,
    warmup: int = 0,
    paces: Mapping[str, Pace] = MappingProxyType({}),
    budget_s: float = math.inf,
    progress: Callable[[], object] = lambda: None,
) -> list[Measured]:
    """Measures contenders that take turns on the same batches; see `interleave` for the options."""
    tokens = {one.spec.name: [0] * len(work) for one in contenders}

    def probe(one: Contender, index: int) -> float:
        seconds, tokens[one.spec.name][index] = one.translate(work[index])
        return seconds

    for one in contenders:
        one.host.reset_peak()
    probes = {one.spec.name: partial(probe, one) for one in contenders}
    samples = interleave(
        probes,
        range(len(work)),
        repeats=repeats,
        warmup=warmup,
        turn=turn,
        paces=paces,
        budget_s=budget_s,
        progress=progress,
    )
    return [
        Measured(one, summarize(samples[one.spec.name]), sum(tokens[one.spec.name]), one.host.memory_mb())
        for one in contenders
    ]


def rows_of(measured: Sequence[Measured], work: Sequence[Batch]) -> list[Row]:
    """A row for each contender of a cell.

    ``tokens_per_s`` counts the tokens of the model's first fp32 contender, so that it is the same count for every
    engine of that model; ``length_drift`` is how much longer the contender's own outputs are, as a share.
    """
    sentences = sum(map(len, work))
    return [_row(one, _reference_tokens(one, measured), len(work[0]), sentences) for one in measured]


def _reference_tokens(one: Measured, measured: Sequence[Measured]) -> int:
    """Tokens of the same model's first fp32 contender, or of this one where there is none."""
    model = one.contender.spec.model
    exact = (it for it in measured if (it.contender.spec.model, it.contender.spec.precision) == (model, "fp32"))
    return next(exact, one).tokens


def _row(one: Measured, tokens: int, batch_size: int, sentences: int) -> Row:
    """Returns the row of one contender; ``tokens`` is what its throughput counts."""
    spec, setting, time = one.contender.spec, one.contender.setting, one.summary
    info: Info = one.contender.host.info
    return {
        "engine": spec.engine,
        "model": spec.model,
        "precision": spec.precision,
        "batch_size": batch_size,
        "num_beams": one.contender.num_beams,
        **setting._asdict(),
        "p50_ms": round(time.p50 * 1e3, 4),
        "p90_ms": round(time.p90 * 1e3, 4),
        "p99_ms": round(time.p99 * 1e3, 4),
        "sentences_per_s": round(sentences / time.total, 2),
        "tokens_per_s": round(tokens / time.total, 1),
        "target_tokens": round(tokens / sentences, 2),
        "length_drift": round(one.tokens / tokens - 1, 4),
        "memory_mb": round(one.memory_mb, 1),
        "size_mb": round(info.size_mb, 2),
        "load_s": round(info.load_s, 3),
        "parameters": info.parameters,
    }


def with_speedup(rows: Sequence[Row], model: str, cell: Sequence[str]) -> list[Row]:
    """Rows with ``speedup``: fp32 p50 of ``model`` in the baseline engine over the row's, at equal ``cell`` keys."""
    base = {
        tuple(row[key] for key in cell): row["p50_ms"]
        for row in rows
        if (row["model"], row["engine"], row["precision"]) == (model, BASELINE.name, "fp32")
    }
    p50s = [base.get(tuple(row[key] for key in cell)) for row in rows]
    return [
        {**row, "speedup": None if p50 is None else round(p50 / row["p50_ms"], 2)}
        for row, p50 in zip(rows, p50s, strict=True)
    ]


def full_precision(row: Row) -> str:
    """A row's precision, with its shortlist, which rows of peers keep as a flag."""
    return f"{row['precision']}{SHORTLIST if row.get('shortlist') else ''}"


def contender_name(row: Row) -> str:
    """`EngineSpec.name` of the contender that a row is of."""
    return f"{row['model']} {row['engine']} {full_precision(row)}"
