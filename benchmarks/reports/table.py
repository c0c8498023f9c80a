"""Shows a bench's result file: in a terminal, as Markdown, as an HTML page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.measure.result_file import Row, Table
from benchmarks.reports import html
from compressor.files import write_atomic


class Column(NamedTuple):
    """A column of a table: key of the row, head, and format of a value."""

    key: str
    head: str
    format_spec: str = ""


class Grid(NamedTuple):
    """A table of formatted cells; ``numeric`` says which columns are aligned right."""

    heads: list[str]
    numeric: list[bool]
    lines: list[list[str]]


LATENCY = (
    Column("model", "model"),
    Column("engine", "engine"),
    Column("precision", "precision"),
    Column("batch_size", "batch", "d"),
    Column("num_beams", "beams", "d"),
    Column("intra_threads", "threads", "d"),
    Column("p50_ms", "p50 ms", ".1f"),
    Column("p90_ms", "p90 ms", ".1f"),
    Column("p99_ms", "p99 ms", ".1f"),
    Column("sentences_per_s", "sentences/s", ",.1f"),
    Column("tokens_per_s", "tokens/s", ",.0f"),
    Column("memory_mb", "memory MB", ".0f"),
    Column("size_mb", "size MB", ".1f"),
    Column("parameters", "parameters", ",d"),
    Column("bleu", "BLEU", ".1f"),
    Column("chrf", "chrF", ".1f"),
    Column("rouge_l", "ROUGE-L", ".1f"),
    Column("length_stops", "at limit", ",d"),
    Column("repetition_stops", "loops", ",d"),
    Column("cut_sources", "sources cut", ",d"),
    Column("speedup", "speed-up", ".1f"),
)
_SCORES = (("bleu", "BLEU"), ("chrf", "chrF"))
_RUN = ("method", "data", "parameters", "updates", "seconds", "seed", "num_beams", "precision", "dev_bleu")
QUALITY = (
    Column("method", "method"),
    Column("data", "data"),
    Column("parameters", "parameters", ",d"),
    Column("updates", "updates", ",d"),
    Column("minutes", "minutes", ".0f"),
    Column("num_beams", "beams", "d"),
    Column("precision", "precision"),
    Column("dev_bleu", "dev BLEU", ".1f"),
)


def latency_grid(table: Table) -> Grid:
    """The rows of a bench, without columns that apply to none of them."""
    return grid_of(LATENCY, table["rows"])


def quality_grid(table: Table) -> Grid | None:
    """The ``quality`` list, a line for each model and search, test sets side by side; None where there is no list."""
    entries: list[Row] = table.get("quality") or []
    if not entries:
        return None
    merged: dict[tuple[Any, ...], Row] = {}
    for entry in entries:
        seconds = entry.get("seconds")
        start = {**entry, "minutes": None if seconds is None else seconds / 60}
        row = merged.setdefault(tuple(entry.get(key) for key in _RUN), start)
        row[f"{entry['test_set']} bleu"], row[f"{entry['test_set']} chrf"] = entry["test_bleu"], entry["test_chrf"]
    sets = dict.fromkeys(entry["test_set"] for entry in entries)
    scores = [Column(f"{name} {key}", f"{name} {head}", ".1f") for name in sets for key, head in _SCORES]
    return grid_of((*QUALITY, *scores), list(merged.values()))


def markdown(table: Table) -> str:
    """Returns quality and latency as Markdown tables, with signatures and settings below."""
    parts = [markdown_grid(grid) for grid in (quality_grid(table), latency_grid(table)) if grid and grid.lines]
    return "\n\n".join([*parts, "  \n".join(notes(table))]) + "\n"


def terminal(table: Table, console: Console | None = None) -> None:
    """Prints quality and latency as tables in a terminal."""
    console = console or Console(width=None if sys.stdout.isatty() else 220)
    for title, grid in (("Quality", quality_grid(table)), ("Latency", latency_grid(table))):
        if not grid or not grid.lines:
            continue
        shown = RichTable(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
        for head, numeric in zip(grid.heads, grid.numeric, strict=True):
            shown.add_column(head, justify="right" if numeric else "left")
        for line in grid.lines:
            shown.add_row(*line)
        console.print(shown)
    for note in notes(table):
        console.print(note, style="dim", highlight=False, markup=False)


def write_markdown(table: Table, path: Path) -> None:
    """Writes the Markdown tables, whole or not at all."""
    write_atomic(path, markdown(table))


def write_html(table: Table, path: Path) -> None:
    """Writes one HTML page that needs no other file: a plot of quality against latency, tables, settings.

    Raises:
        DependencyError: matplotlib is missing.
        StorageError: the disk is full or the folder not writable.
    """
    grids = [("Quality", quality_grid(table)), ("Latency", latency_grid(table))]
    sections = [(title, grid.heads, grid.numeric, grid.lines) for title, grid in grids if grid and grid.lines]
    drawing = html.plot(table["rows"])
    drawings = [(html.QUALITY_AGAINST_LATENCY, drawing)] if drawing else []
    provenance = table.get("provenance", {})
    write_atomic(path, html.render("Teacher and student", drawings, sections, notes(table), provenance))


def notes(table: Table) -> list[str]:
    """Definitions, settings, machine and signatures of a result, a line each."""
    bench, lines = table.get("provenance", {}).get("bench") or {}, []
    if table["rows"]:
        lines.append(
            "One call translates or summarizes one batch of real text, from text to text; engines take turns of eight "
            "calls. p50, p90, p99: percentiles of the time of a call. Memory: peak during the calls, over the process "
            "with its library imported. Size: the files of the weights and graphs."
        )
    if any(row.get("speedup") is not None for row in table["rows"]):
        lines.append(
            "Speed-up: p50 of the teacher in Hugging Face `generate` (fp32) over the row's, at equal batch, beams and "
            "threads."
        )
    if bench.get("source"):
        timed = f"{bench['sentences']} sentences timed {bench['repeats']} times"
        lines.append(f"Test set {bench['source']}, {bench['lines']:,} lines; {timed}.")
    lines += measured_on(table.get("provenance", {}), "torch", "transformers", "onnxruntime")
    signatures = dict.fromkeys(row.get("signature") for row in [*(table.get("quality") or []), *table["rows"]])
    return lines + [f"Signature: `{signature}`" for signature in signatures if signature]


def measured_on(provenance: dict[str, Any], *software: str) -> list[str]:
    """The sentence with machine, versions and date of a provenance; none where they are absent."""
    cpu, versions = provenance.get("cpu") or {}, provenance.get("versions") or {}
    machine = [cpu.get("model"), f"{cpu['cores']} cores" if cpu.get("cores") else None, provenance.get("platform")]
    facts = [*machine, *(f"{name} {versions[name]}" for name in software if name in versions), provenance.get("date")]
    return [f"Measured on {', '.join(filter(None, facts))}."] if any(facts) else []


def grid_of(columns: Sequence[Column], rows: Sequence[Row]) -> Grid:
    """Returns rows as formatted cells, without columns that apply to none of them."""
    shown = [column for column in columns if any(row.get(column.key) is not None for row in rows)]
    lines = [[_text(row.get(column.key), column.format_spec) for column in shown] for row in rows]
    return Grid([column.head for column in shown], [bool(column.format_spec) for column in shown], lines)


def _text(value: Any, format_spec: str) -> str:
    """Returns a value in its format; a dash where there is none."""
    return "–" if value is None else format(value, format_spec)


def markdown_grid(grid: Grid) -> str:
    """Returns a table as Markdown."""
    rule = ["---:" if numeric else "---" for numeric in grid.numeric]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [grid.heads, rule, *grid.lines])
