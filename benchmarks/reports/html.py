"""Results as one self-contained HTML page, without script, font or image from elsewhere, for light and dark themes."""

from __future__ import annotations

import importlib.util
import io
import json
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from benchmarks.engines.base import TEACHER
from benchmarks.measure.result_file import Row
from compressor.errors import DataError, DependencyError, install_command

Section = tuple[str, list[str], list[bool], list[list[str]]]
"""Title, heads, which columns are numbers, lines."""

QUALITY_AGAINST_LATENCY = "Quality against latency"
_INK = "#010203"  # replaced by the page's text colour in the finished drawing
# Of middle lightness: distinct from white, from near-black, and from each other for the colour-blind.
COLOURS = ("#d55e00", "#0a84c6", "#0f9d76", "#c05fa0", "#a5841c", "#6a7fdb")
MARKERS = "osD^vP"

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --paper: #ffffff; --line: #d5d8dc; --soft: #5d636b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e9ec; --paper: #16181b; --line: #3a3f45; --soft: #a3a9b1; } }
body { margin: 2rem auto; max-width: 80rem; padding: 0 1rem; color: var(--ink); background: var(--paper);
       font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--line); }
.n { text-align: right; }
svg { max-width: 100%; height: auto; color: var(--ink); }
p, pre { color: var(--soft); font-size: .875rem; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; }
"""


def render(
    title: str,
    drawings: Sequence[tuple[str, str]],
    sections: Sequence[Section],
    notes: Sequence[str],
    provenance: dict[str, Any],
) -> str:
    """The page's HTML; ``drawings`` are pairs of a title and inline SVG."""
    details = json.dumps(provenance, indent=1, ensure_ascii=False)
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            *(f"<h2>{escape(head)}</h2>\n<div class=wide>{drawing}</div>" for head, drawing in drawings),
            *(_section(*section) for section in sections),
            *(f"<p>{escape(note)}</p>" for note in notes),
            f"<details><summary>Provenance</summary><pre>{escape(details)}</pre></details>",
            "</body></html>\n",
        ]
    )


def check_matplotlib() -> None:
    """Raises DependencyError where matplotlib is missing; called before measurements, not after."""
    if importlib.util.find_spec("matplotlib") is None:
        raise DependencyError(f"the report's plot needs matplotlib: {install_command('bench')}")


def draw(rows: Sequence[Row], measure: str) -> str:
    """SVG of quality against latency, as matplotlib writes it.

    Raises:
        DependencyError: matplotlib is missing.
    """
    check_matplotlib()
    return _svg(lambda: _figure(rows, measure))


def _svg(make: Callable[[], Any]) -> str:
    """SVG of a matplotlib figure, with a stand-in for the colour of text."""
    from matplotlib import rc_context

    inks: Any = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "bench", "font.family": "sans-serif"}
    with rc_context({**style, **dict.fromkeys(inks, _INK)}):
        buffer = io.StringIO()
        make().savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()


def scored_rows(rows: Sequence[Row]) -> tuple[list[Row], str] | None:
    """Rows with a score, and the key of that score; None where no row has one."""
    measure = next((key for key in ("bleu", "rouge_l") if any(row[key] is not None for row in rows)), None)
    return None if measure is None else ([row for row in rows if row[measure] is not None], measure)


def plot(rows: Sequence[Row]) -> str | None:
    """Inline SVG: a panel for each batch size, a point for each row with a score; None where no row has one.

    Colour says engine and precision, the marker beams; a student's is hollow. The latency axis is logarithmic.
    """
    scored = scored_rows(rows)
    return None if scored is None else _inline(draw(*scored), QUALITY_AGAINST_LATENCY)


def plot_file(rows: Sequence[Row]) -> str:
    """The same plot as an SVG file for a document, on white. Raises DataError where no row has a score."""
    scored = scored_rows(rows)
    if scored is None:
        raise DataError("no row has a score: nothing can be plotted")
    return _file(draw(*scored))


def figure_file(make: Callable[[], Any]) -> str:
    """A matplotlib figure as an SVG file for a document, on white. Raises DependencyError without matplotlib."""
    check_matplotlib()
    return _file(_svg(make))


def _file(svg: str) -> str:
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg.replace(_INK, "#1c1e21"), flags=re.DOTALL)
    lines = [
        line.rstrip()
        for line in svg.replace("<defs>", '<rect width="100%" height="100%" fill="#ffffff"/><defs>', 1).splitlines()
    ]
    return "\n".join(lines) + "\n"


def _figure(rows: Sequence[Row], measure: str) -> Any:
    """Draws score against latency, a panel for each batch size."""
    from matplotlib.figure import Figure

    sizes = sorted({row["batch_size"] for row in rows})
    figure = Figure(figsize=(3.6 * len(sizes) + 1.2, 4), layout="constrained")
    panels = figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    for panel, size in zip(panels, sizes, strict=True):
        _draw(panel, [row for row in rows if row["batch_size"] == size], rows, measure)
        panel.set_title(f"batch {size}", fontsize=11)
        panel.set_xlabel("p50, ms a call")
    panels[0].set_ylabel({"bleu": "BLEU", "rouge_l": "ROUGE-L"}[measure])
    labels = {text: line for panel in panels for line, text in zip(*panel.get_legend_handles_labels(), strict=True)}
    columns = min(len(sizes), 3, len(labels))
    figure.set_figheight(3.2 + 0.25 * -(-len(labels) // columns))
    figure.legend(list(labels.values()), list(labels), loc="outside lower center", ncols=columns, frameon=False)
    return figure


def _draw(panel: Any, rows: Sequence[Row], everything: Sequence[Row], measure: str) -> None:
    """Draws the points of one panel; colours and markers are those of all rows."""
    students = [row["model"] for row in everything if row["model"] != TEACHER]

    def coloured(row: Row) -> tuple[str, str, str]:  # a teacher has the colours of the first student
        model = students[0] if students and row["model"] == TEACHER else row["model"]
        return model, row["engine"], row["precision"]

    kinds = list(dict.fromkeys(map(coloured, everything)))
    beams = sorted({row["num_beams"] for row in everything})
    several = len({row["intra_threads"] for row in everything}) > 1
    for row in rows:
        point, colour = (row["p50_ms"], row[measure]), COLOURS[kinds.index(coloured(row)) % len(COLOURS)]
        panel.scatter(
            *point,
            s=60,
            edgecolors=colour,
            facecolors=colour if row["model"] == TEACHER else "none",
            linewidths=1.8,
            marker=MARKERS[beams.index(row["num_beams"]) % len(MARKERS)],
            label=_contender(row) + (f", {row['num_beams']} beams" if row["num_beams"] > 1 else ""),
        )
        if several:
            text = f"{row['intra_threads']} thr"
            panel.annotate(text, point, xytext=(5, 4), textcoords="offset points", fontsize=8)
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter("{x:g}")
    panel.margins(0.15)
    panel.grid(alpha=0.2)


def _contender(row: Row) -> str:
    """Returns how the legend calls a row's contender."""
    return f"{row['model']}, {row['engine']} {row['precision']}"


def _inline(svg: str, label: str) -> str:
    """Returns the SVG element alone, without prologue, metadata and name-space addresses, in the page's text colour."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", svg)
    return svg.replace(_INK, "currentColor").replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)


def _section(title: str, heads: list[str], numeric: list[bool], lines: list[list[str]]) -> str:
    """Returns a heading and a table as HTML."""
    kinds = ['class="n"' if is_number else "" for is_number in numeric]
    head = "".join(f"<th {kind}>{escape(text)}</th>" for kind, text in zip(kinds, heads, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td {kind}>{escape(text)}</td>" for kind, text in zip(kinds, line, strict=True)) + "</tr>"
        for line in lines
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"
    return f"<h2>{escape(title)}</h2>\n<div class=wide>{table}</div>"
