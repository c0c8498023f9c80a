"""The result of the robustness bench as a Markdown table and as a plot."""

from __future__ import annotations

from typing import Any

from benchmarks.measure.result_file import Row, Table
from benchmarks.reports import html
from benchmarks.reports.table import Column, grid_of, markdown_grid, measured_on

COLUMNS = (
    Column("slice", "slice"),
    Column("model", "model"),
    Column("num_beams", "beams", "d"),
    Column("sentences", "sentences", ",d"),
    Column("bleu", "BLEU", ".1f"),
    Column("bleu_lost", "lost", ".1f"),
    Column("chrf", "chrF", ".1f"),
    Column("length_ratio", "length ratio", ".2f"),
    Column("runaways", "runaways", "d"),
    Column("copied_share", "copied right", ".1%"),
)


def markdown(table: Table) -> str:
    """A line for each slice and model; models of one slice stand together."""
    slices = list(dict.fromkeys(row["slice"] for row in table["rows"]))
    rows = sorted(map(_with_share, table["rows"]), key=lambda row: slices.index(row["slice"]))
    test_set = table["settings"]["test_set"]
    about = f"Test set {test_set}; scores disregard letter case: {table['rows'][0]['signature']}."
    note = " ".join([about, *measured_on(table["provenance"], "onnxruntime")])
    return f"{markdown_grid(grid_of(COLUMNS, rows))}\n\n{note}\n"


def plot_file(table: Table) -> str:
    """A bar of BLEU for each slice and model, as an SVG file. Raises DependencyError without matplotlib."""
    return html.figure_file(lambda: _figure(table["rows"]))


def _figure(rows: list[Row]) -> Any:
    from matplotlib.figure import Figure

    slices, models = (list(dict.fromkeys(row[key] for row in rows)) for key in ("slice", "model"))
    figure = Figure(figsize=(8, 0.3 * len(slices) * (len(models) + 1) + 1.2), layout="constrained")
    panel = figure.subplots()
    for place, model in enumerate(models):
        scores = {row["slice"]: row["bleu"] for row in rows if row["model"] == model}
        measured = [index for index, name in enumerate(slices) if name in scores]
        heights = [index + (place - (len(models) - 1) / 2) * 0.8 / len(models) for index in measured]
        widths = [scores[slices[index]] for index in measured]
        panel.barh(heights, widths, 0.8 / len(models), label=model, color=html.COLOURS[place % len(html.COLOURS)])
    panel.set_yticks(range(len(slices)), slices)
    panel.invert_yaxis()
    panel.set_xlabel("BLEU without regard to case")
    panel.grid(axis="x", alpha=0.2)
    figure.legend(loc="outside lower center", ncols=min(3, len(models)), frameon=False)
    return figure


def _with_share(row: Row) -> Row:
    return row | {"copied_share": row["copied_right"] / row["copied"] if row["copied"] else None}
