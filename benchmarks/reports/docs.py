"""Shows a result file, or writes the tables and the plot of the documentation from ``benchmarks/results``.

A table of a document stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``; the names are those of `SECTIONS`.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.engines.base import TEACHER
from benchmarks.engines.registry import BASELINE, OWN
from benchmarks.latency.grid import QUALITY_KEYS
from benchmarks.measure.result_file import Row, Table, load
from benchmarks.reports import exposure, html, methods, peers, robustness, roofline, serving, small_tables, table
from compressor.errors import ConfigError, DataError
from compressor.files import write_atomic

RESULTS = Path(__file__).resolve().parents[1] / "results"
MARKED = re.compile(r"<!-- ([\w-]+) -->\n(?:.*?\n)?<!-- /\1 -->", re.DOTALL)
MOST_SUMMARY_ROWS = 10
SUMMARY = tuple(
    table.Column(column.key, column.head, column.format_spec)
    for column in table.LATENCY
    if column.key in ("model", "engine", "precision", "batch_size", "p50_ms", "sentences_per_s", "size_mb", "speedup")
    or column.key in QUALITY_KEYS
)


def summary(results: Table) -> str:
    """Returns a Markdown table of a bench: greedy, one thread, teacher in the baseline engine, students in ONNX.

    It has at most ten rows.
    """
    engines = {TEACHER: BASELINE.name}
    chosen = [
        row for row in results["rows"]
        if row["engine"] == engines.get(row["model"], OWN.name) and (row["num_beams"], row["intra_threads"]) == (1, 1)
    ]  # fmt: skip
    return table.markdown_grid(table.grid_of(SUMMARY, _fewer(chosen))) + "\n"


def _fewer(rows: list[Row]) -> list[Row]:
    """The rows, without the largest batch sizes if there are too many."""
    sizes = sorted({row["batch_size"] for row in rows})
    while len(rows) > MOST_SUMMARY_ROWS and len(sizes) > 1:
        largest = sizes.pop()
        rows = [row for row in rows if row["batch_size"] < largest]
    return rows[:MOST_SUMMARY_ROWS]


SECTIONS: dict[str, tuple[str, Callable[[Table], str]]] = {
    "summary": ("de-en.json", summary),
    "results": ("de-en.json", table.markdown),
    "titles": ("titles.json", table.markdown),
    "students": ("students.json", table.markdown),
    "peers": ("peers.json", peers.markdown),
    "methods": ("methods.json", methods.markdown),
    "robustness": ("robustness.json", robustness.markdown),
    "robustness-titles": ("robustness-titles.json", robustness.markdown),
    "exposure": ("exposure.json", exposure.markdown),
    "update-cost": ("update-cost.json", small_tables.update_cost),
    "training-throughput": ("training-throughput.json", small_tables.training_throughput),
    "corpus-start": ("corpus-start.json", small_tables.corpus_start),
    "scan-cost": ("scan-cost.json", small_tables.scan_cost),
    "batch-independence": ("batch-independence.json", small_tables.batch_independence),
    "roofline": ("roofline.json", roofline.markdown),
    "serving": ("serving.json", serving.markdown),
}
"""Name of a table to its result file and to what makes the Markdown."""


class Report(NamedTuple):
    """How a kind of result is shown."""

    markdown: Callable[[Table], str]
    plot_file: Callable[[Table], str] | None = None
    is_bench: bool = False

    @property
    def has(self) -> tuple[str, ...]:
        """Options of the command that this kind has."""
        return ("html", "plot") if self.is_bench else ("plot",) if self.plot_file else ()


BENCH = Report(table.markdown, lambda results: html.plot_file(results["rows"]), is_bench=True)
REPORTS = {
    "load": Report(serving.markdown, serving.plot_file),
    "tasks": Report(methods.markdown, methods.plot_file),
    "slice": Report(robustness.markdown, robustness.plot_file),
    "positions": Report(exposure.markdown, exposure.plot_file),
    "shape": Report(peers.markdown),
    "axis": Report(roofline.markdown),
    "method": Report(small_tables.update_cost),
    "name": Report(small_tables.training_throughput),
    "cpu_seconds": Report(small_tables.corpus_start),
    "implementation": Report(small_tables.scan_cost),
    "moved": Report(small_tables.batch_independence),
}
"""What only this kind of result has, on top or in its rows, to how it is shown."""


def fill(text: str, results: Path = RESULTS) -> str:
    """Returns a document in which each marked table is made anew from its result file.

    Raises:
        DataError: a table has no name of `SECTIONS`, or its result file is missing.
    """

    def section(match: re.Match[str]) -> str:
        name = match[1]
        if name not in SECTIONS:
            raise DataError(f"<!-- {name} -->: no such table; choose from {', '.join(SECTIONS)}")
        file, markdown = SECTIONS[name]
        return f"<!-- {name} -->\n{markdown(load(results / file)).strip()}\n<!-- /{name} -->"

    return MARKED.sub(section, text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "file", type=Path, nargs="?", metavar="FILE", help="result file of `compress bench` or of another measurement"
    )
    parser.add_argument("--markdown", action="store_true", help="print it as Markdown")
    parser.add_argument("--html", type=Path, metavar="OUT", help="write it as a page")
    parser.add_argument("--plot", type=Path, metavar="OUT", help="write its plot as SVG")
    parser.add_argument("--docs", type=Path, nargs="+", default=[], metavar="FILE", help="fill the tables of documents")


def run(options: argparse.Namespace) -> None:
    """Shows the file as asked; fills the documents."""
    if options.file is None and not options.docs:
        raise ConfigError("nothing to show: give a result file, or {docs}", options=["docs"])
    for path in options.docs:
        write_atomic(path, fill(path.read_text(encoding="utf-8")))
    if options.file is None:
        return
    results = load(options.file)
    report = _report_of(results)
    for option in ("html", "plot"):
        if getattr(options, option) and option not in report.has:
            raise ConfigError(f"{{{option}}}: {options.file} has a table alone", options=[option])
    if options.html:
        table.write_html(results, options.html)
    if options.plot:
        assert report.plot_file is not None  # else the option was refused
        write_atomic(options.plot, report.plot_file(results))
    if options.markdown or not report.is_bench:
        print(report.markdown(results), end="")
    elif not (options.html or options.plot):
        table.terminal(results)


def _report_of(results: Table) -> Report:
    """Returns how a result of this kind is shown."""
    names = {*results, *(results.get("rows") or [{}])[0]}
    return next((report for mark, report in REPORTS.items() if mark in names), BENCH)
