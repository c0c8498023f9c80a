"""Latency, memory and quality of a teacher and its student, side by side, in one run.

A *cell* is a batch size, a number of beams and a number of threads. In each cell every contender translates the same
batches of real sentences, and they take turns (A B A B ...) of a few calls. One call is one batch, from text to text.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from benchmarks.engines import EngineSpec
from benchmarks.evaluation import quality, read_sources, read_test_set, translate_all
from benchmarks.settings import BenchConfig, contenders, resolve
from benchmarks.timing import Probe, Summary, interleave, summarize
from benchmarks.worker import Connect, Host, Info
from benchmarks.workshop import Workshop
from compressor.errors import DataError
from compressor.progress import Bar
from compressor.provenance import provenance
from compressor.runtime.session import probe_device

__all__ = ["BenchConfig", "run"]

TURN = 8
"""Calls of an engine before it is the next one's turn."""

ROW_KEYS = (
    "engine", "model", "precision", "batch_size", "num_beams", "intra_threads", "p50_ms", "p90_ms", "p99_ms",
    "sentences_per_s", "tokens_per_s", "memory_mb", "size_mb", "parameters", "bleu", "chrf", "rouge_l", "signature",
    "speedup",
)  # fmt: skip
QUALITY_KEYS = ("bleu", "chrf", "rouge_l", "signature")

Batch = list[str]
Row = dict[str, Any]


class Cell(NamedTuple):
    """One point of the grid."""

    batch_size: int
    num_beams: int
    threads: int


class Measured(NamedTuple):
    """What one contender did in one cell. ``tokens``: generated in one pass over the batches."""

    spec: EngineSpec
    info: Info
    summary: Summary
    tokens: int
    memory_mb: float


def run(config: BenchConfig, *, connect: Connect | None = None, progress: bool = True) -> dict[str, Any]:
    """Measures every contender in every cell it can do.

    Args:
        config: what is measured.
        connect: where engines run: each in a process of its own, unless a test says otherwise.
        progress: whether a bar is shown on stderr (it never is where that is not a terminal).

    Returns:
        ``{"provenance": {...}, "rows": [...]}``, each row with all of `ROW_KEYS`, null where one does not apply.
        ``tokens_per_s`` counts the tokens of the model's first fp32 engine, end of sentence included, so that it is
        the same count for every engine of that model. ``memory_mb`` is the peak resident set over the row's calls, less
        that of the process with its libraries imported; a GPU's own memory is not in it.

    Raises:
        CompressError: a model or file is missing or damaged, or the options do not fit together.
    """
    config = resolve(config)
    specs = contenders(config)
    if any(spec.engine == "onnx" for spec in specs):
        probe_device(config.device)
    with tempfile.TemporaryDirectory() as folder:
        return _table(config, specs, connect or Workshop(Path(folder)), progress)


def _table(config: BenchConfig, specs: list[EngineSpec], connect: Connect, progress: bool) -> dict[str, Any]:
    sources, references = read_test_set(config.source, config.reference) if config.quality else ([], [])
    sources = sources or read_sources(config.source)
    sentences = spread(sources, config.sentences)
    console = Console(stderr=True)
    rows: list[Row] = []
    scores: dict[tuple[str, int], Row] = {}
    for threads in config.threads:
        with _Hosts(specs, threads, connect) as hosts, Bar(console, progress) as bar:
            for cell in _cells(config, threads):
                rows += _measure(cell, hosts, sentences, config, bar)
            if config.quality and not scores:
                scores = _qualities(config, hosts, sources, references, bar)
    for row in rows:
        row |= scores.get((_name(row), row["num_beams"]), dict.fromkeys(QUALITY_KEYS))
    _tell_left_out(console, config, specs, rows)
    return {
        "provenance": {**provenance(), "bench": _settings(config, len(sources))},
        "rows": [{key: row[key] for key in ROW_KEYS} for row in with_speedup(rows)],
    }


def with_speedup(rows: Sequence[Row]) -> list[Row]:
    """Rows with ``speedup``: p50 of the fp32 teacher in transformers over the row's, at equal batch, beams, threads."""
    cell = ("batch_size", "num_beams", "intra_threads")
    base = {
        tuple(row[key] for key in cell): row["p50_ms"]
        for row in rows
        if (row["model"], row["engine"], row["precision"]) == ("teacher", "transformers", "fp32")
    }
    done = []
    for row in rows:
        teacher = base.get(tuple(row[key] for key in cell))
        done.append({**row, "speedup": None if teacher is None else round(teacher / row["p50_ms"], 2)})
    return done


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
    """Full batches in the given order; what does not fill one is left out, and too few sentences go round again."""
    if len(sentences) < size:
        return [[sentences[index % len(sentences)] for index in range(size)]]
    return [list(sentences[start : start + size]) for start in range(0, len(sentences) - size + 1, size)]


def _cells(config: BenchConfig, threads: int) -> list[Cell]:
    """Smallest work first: a process keeps some memory, so a row's peak must not follow a larger one's."""
    grid = [Cell(size, beams, threads) for beams in config.num_beams for size in config.batch_sizes]
    return sorted(grid, key=lambda cell: (cell.batch_size * cell.num_beams, cell.num_beams))


class _Hosts:
    """The loaded contenders; all are closed when the ``with`` block ends."""

    def __init__(self, specs: Sequence[EngineSpec], threads: int, connect: Connect) -> None:
        self._wanted, self._threads, self._connect = specs, threads, connect
        self._hosts: list[tuple[EngineSpec, Host]] = []

    def __enter__(self) -> _Hosts:
        try:
            for spec in self._wanted:
                self._hosts.append((spec, self._connect(spec, self._threads)))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for _, host in self._hosts:
            host.close()

    def able(self, num_beams: int) -> list[tuple[EngineSpec, Host]]:
        """Those that can search with so many beams."""
        return [(spec, host) for spec, host in self._hosts if num_beams <= (host.info.max_num_beams or num_beams)]


def _measure(cell: Cell, hosts: _Hosts, sentences: list[str], config: BenchConfig, bar: Bar) -> list[Row]:
    able = hosts.able(cell.num_beams)
    work = batches(sentences, cell.batch_size)
    tokens = {spec.name: [0] * len(work) for spec, _ in able}
    probes = {spec.name: _probe(host, cell.num_beams, work, tokens[spec.name]) for spec, host in able}
    for _, host in able:
        host.reset_peak()
    label = f"batch {cell.batch_size}, beams {cell.num_beams}, threads {cell.threads}"
    advance = bar.start(label, len(able) * (config.warmup + config.repeats * len(work)))
    samples = interleave(
        probes, range(len(work)), repeats=config.repeats, warmup=config.warmup, turn=TURN, progress=advance
    )
    measured = [
        Measured(spec, host.info, summarize(samples[spec.name]), sum(tokens[spec.name]), host.memory_mb())
        for spec, host in able
    ]
    return [_row(cell, one, reference_tokens(one, measured), len(work)) for one in measured]


def _probe(host: Host, num_beams: int, work: list[Batch], tokens: list[int]) -> Probe[int]:
    def probe(index: int) -> float:
        reply = host.translate(work[index], num_beams)
        tokens[index] = sum(reply.tokens)
        return reply.seconds

    return probe


def reference_tokens(one: Measured, measured: Sequence[Measured]) -> int:
    """Tokens of the same model's first fp32 contender, or of this one where there is none."""
    exact = (other for other in measured if (other.spec.model, other.spec.precision) == (one.spec.model, "fp32"))
    return next(exact, one).tokens


def _row(cell: Cell, one: Measured, tokens: int, calls: int) -> Row:
    time = one.summary
    return {
        "engine": one.spec.engine,
        "model": one.spec.model,
        "precision": one.spec.precision,
        "batch_size": cell.batch_size,
        "num_beams": cell.num_beams,
        "intra_threads": cell.threads,
        "p50_ms": round(time.p50 * 1e3, 4),
        "p90_ms": round(time.p90 * 1e3, 4),
        "p99_ms": round(time.p99 * 1e3, 4),
        "sentences_per_s": round(calls * cell.batch_size / time.total, 2),
        "tokens_per_s": round(tokens / time.total, 1),
        "memory_mb": round(one.memory_mb, 1),
        "size_mb": round(one.info.size_mb, 2),
        "parameters": one.info.parameters,
    }


def _qualities(
    config: BenchConfig, hosts: _Hosts, sources: list[str], references: list[str], bar: Bar
) -> dict[tuple[str, int], Row]:
    """Scores by contender and beams: neither the batch size nor the threads of a row bear on them."""
    found = {}
    size = config.quality_batch_size
    for num_beams in config.num_beams:
        for spec, host in hosts.able(num_beams):
            advance = bar.start(f"quality of {spec.name}, beams {num_beams}", -(-len(sources) // size))
            hypotheses = translate_all(host, sources, num_beams, size, lambda *_, step=advance: step())
            scores = quality(config.task or "translation", hypotheses, references)
            found[spec.name, num_beams] = {key: scores[key] for key in QUALITY_KEYS}
    return found


def _tell_left_out(console: Console, config: BenchConfig, specs: Sequence[EngineSpec], rows: Sequence[Row]) -> None:
    present = {(_name(row), row["num_beams"]) for row in rows}
    for spec in specs:
        for num_beams in config.num_beams:
            if (spec.name, num_beams) not in present:
                console.print(f"{spec.name}: does not search with {num_beams} beams; left out", highlight=False)


def _name(row: Row) -> str:
    return f"{row['model']} {row['engine']} {row['precision']}"


def _settings(config: BenchConfig, lines: int) -> dict[str, Any]:
    """What the numbers depend on beside the machine; folders and files by their names alone."""
    paths = {key: Path(value).name for key in ("bundle", "teacher", "run", "source", "reference")
             if (value := getattr(config, key)) is not None}  # fmt: skip
    return {**config.model_dump(mode="json"), **paths, "lines": lines}
