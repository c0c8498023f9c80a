"""Latency, memory and quality of a teacher and its students, side by side, in one run.

A *cell* is a batch size, a number of beams and a number of threads. In each cell every contender translates the same
batches of real sentences, and they take turns (A B A B ...) of a few calls. One call is one batch, from text to text.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from benchmarks.engines.base import TEACHER, EngineSpec
from benchmarks.engines.conversion import ConvertingConnector
from benchmarks.engines.process import Connect
from benchmarks.engines.registry import OWN
from benchmarks.latency.config import BenchConfig
from benchmarks.latency.contenders import contenders, resolve
from benchmarks.latency.grid import (
    QUALITY_KEYS,
    ROW_KEYS,
    Contender,
    Hosts,
    Setting,
    batches,
    contender_name,
    measure,
    rows_of,
    spread,
    with_speedup,
)
from benchmarks.measure.result_file import Row, Table
from benchmarks.quality.evaluate import COUNT_KEYS, counts, quality, read_sources, read_test_set, translate_all
from compressor.progress import Bar
from compressor.provenance import provenance
from compressor.runtime.session import probe_device

TURN = 8
"""Calls of an engine before it is the next one's turn."""

SPEEDUP_CELL = ("batch_size", "num_beams", "intra_threads")
"""Keys that are equal in a row and in the one that its speed-up is counted from."""


class Cell(NamedTuple):
    """One point of the grid."""

    batch_size: int
    num_beams: int
    threads: int


def run(config: BenchConfig, *, connect: Connect | None = None, progress: bool = True) -> Table:
    """Measures every contender in every cell it can do.

    Args:
        config: What is measured.
        connect: Where engines run; by default each in a process of its own.
        progress: Whether a bar is shown on stderr (it never is where that is not a terminal).

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
    if any(spec.engine == OWN.name for spec in specs):
        probe_device(config.device)
    with tempfile.TemporaryDirectory() as folder:
        return _table(config, specs, connect or ConvertingConnector(Path(folder)), progress)


def _table(config: BenchConfig, specs: list[EngineSpec], connect: Connect, progress: bool) -> Table:
    """Measures all cells, then quality; returns rows and provenance."""
    sources, references = read_test_set(config.source, config.reference) if config.quality else ([], [])
    sources = sources or read_sources(config.source)
    sentences = spread(sources, config.sentences)
    console = Console(stderr=True)
    rows: list[Row] = []
    scores: dict[tuple[str, int], Row] = {}
    for threads in config.threads:
        with Hosts(connect) as hosts, Bar(console, progress) as bar:
            for num_beams in sorted(config.num_beams):  # all are open before the first is measured
                _able(config, specs, hosts, num_beams, threads)
            for cell in _cells(config, threads):
                able = _able(config, specs, hosts, cell.num_beams, threads)
                rows += _measure(cell, able, sentences, config, bar)
            if config.quality and not scores:
                scores = _scores(config, specs, hosts, (sources, references), bar)
    for row in rows:
        row |= scores.get((contender_name(row), row["num_beams"]), dict.fromkeys((*QUALITY_KEYS, *COUNT_KEYS)))
    _report_skipped(console, config, specs, rows)
    rows = with_speedup(rows, TEACHER, SPEEDUP_CELL)
    return {
        "provenance": {**provenance(), "bench": _settings(config, len(sources))},
        "rows": [{key: row[key] for key in ROW_KEYS} for row in rows],
    }


def _cells(config: BenchConfig, threads: int) -> list[Cell]:
    """Smallest work first: a process keeps some memory, so a row's peak must not follow a larger one's."""
    grid = [Cell(size, beams, threads) for beams in config.num_beams for size in config.batch_sizes]
    return sorted(grid, key=lambda cell: (cell.batch_size * cell.num_beams, cell.num_beams))


def _able(
    config: BenchConfig, specs: Sequence[EngineSpec], hosts: Hosts, num_beams: int, threads: int
) -> list[Contender]:
    """The contenders that can search with so many beams; their hosts for the narrowest search of the bench tell."""
    setting, fewest = Setting(threads), min(config.num_beams)
    limits = {spec.name: hosts.host(spec, setting, fewest).info.max_num_beams for spec in specs}
    able = [spec for spec in specs if num_beams <= (limits[spec.name] or num_beams)]
    return [Contender(spec, hosts.host(spec, setting, num_beams), num_beams, setting) for spec in able]


def _measure(cell: Cell, able: list[Contender], sentences: list[str], config: BenchConfig, bar: Bar) -> list[Row]:
    """Returns the rows of one cell."""
    work = batches(sentences, cell.batch_size)
    label = f"batch {cell.batch_size}, beams {cell.num_beams}, threads {cell.threads}"
    advance = bar.start(label, len(able) * (config.warmup + config.repeats * len(work)))
    measured = measure(able, work, repeats=config.repeats, warmup=config.warmup, turn=TURN, progress=advance)
    return rows_of(measured, work)


def _scores(
    config: BenchConfig, specs: Sequence[EngineSpec], hosts: Hosts, test_set: tuple[list[str], list[str]], bar: Bar
) -> dict[tuple[str, int], Row]:
    """Scores by contender and beams; batch size and threads do not change them."""
    sources, references = test_set
    scores, size = {}, config.quality_batch_size
    for num_beams in config.num_beams:
        for one in _able(config, specs, hosts, num_beams, config.threads[0]):
            advance = bar.start(f"quality of {one.spec.name}, beams {num_beams}", -(-len(sources) // size))
            counter: Counter[str] = Counter()
            hypotheses = translate_all(one.host, sources, num_beams, size, lambda *_, step=advance: step(), counter)
            measured = quality(config.task or "translation", hypotheses, references)
            scores[one.spec.name, num_beams] = {key: measured[key] for key in QUALITY_KEYS} | counts(counter)
    return scores


def _report_skipped(console: Console, config: BenchConfig, specs: Sequence[EngineSpec], rows: Sequence[Row]) -> None:
    """Prints which contenders were left out because they cannot search with so many beams."""
    present = {(contender_name(row), row["num_beams"]) for row in rows}
    for spec in specs:
        for num_beams in config.num_beams:
            if (spec.name, num_beams) not in present:
                console.print(f"{spec.name}: does not search with {num_beams} beams; left out", highlight=False)


def _settings(config: BenchConfig, lines: int) -> dict[str, Any]:
    """What the numbers depend on beside the machine; folders and files by their names alone."""
    files = {key: Path(value).name for key in ("teacher", "source", "reference") if (value := getattr(config, key))}
    folders = {key: [path.name for path in getattr(config, key)] for key in ("bundles", "runs")}
    return {**config.model_dump(mode="json"), **files, **folders, "lines": lines}
