"""The result of the robustness bench as a Markdown table and as a plot."""

from __future__ import annotations

from typing import Any

from benchmarks.measure.result_file import Row, Table
from benchmarks.reports import html
from benchmarks.reports.table import Column, grid_of, markdown_grid, measured_on

COLUMNS = (
    Column("test_set", "test set"),
    Column("slice", "slice"),
    Column("model", "model"),
    Column("num_beams", "beams", "d"),
    Column("sentences", "sentences", ",d"),
    Column("bleu", "BLEU", ".1f"),
    Column("bleu_lost", "lost", "z.1f"),
    Column("chrf", "chrF", ".1f"),
    Column("rouge_l", "ROUGE-L", ".1f"),
    Column("rouge_l_lost", "lost", "z.1f"),
    Column("length_ratio", "length ratio", ".2f"),
    Column("runaways", "runaways", "d"),
    Column("copied", "to copy", ",d"),
    Column("copied_share", "copied right", ".1%"),
)


def markdown(table: Table) -> str:
    """A line for each test set, slice and model; models of one slice stand together. Too small slices are named."""
    rows, settings = table["rows"], table["settings"]
    order = {key: place for place, key in enumerate(dict.fromkeys((row["test_set"], row["slice"]) for row in rows))}
    ordered = sorted(map(_with_share, rows), key=lambda row: order[row["test_set"], row["slice"]])
    notes = [f"Scores disregard letter case: {rows[0]['signature']}.", *_left_out(table)]
    notes += measured_on(table["provenance"], "onnxruntime")
    columns = [column for column in COLUMNS if column.key != "test_set" or len(settings["test_sets"]) > 1]
    if len(settings["test_sets"]) == 1:
        notes.insert(0, f"Test set {settings['test_sets'][0]}.")
    return f"{markdown_grid(grid_of(columns, ordered))}\n\n{' '.join(notes)}\n"


def _left_out(table: Table) -> list[str]:
    """Returns the sentence on slices that are too small; none where all were measured."""
    listed = ", ".join(f"{one['slice']} of {one['test_set']} ({one['lines']})" for one in table["left_out"])
    return [f"Left out, with fewer than {table['settings']['least_lines']} lines: {listed}."] if listed else []


def plot_file(table: Table) -> str:
    """A bar of BLEU for each slice and model, as an SVG file. Raises DependencyError without matplotlib."""
    return html.figure_file(lambda: _figure(table["rows"]))


def _figure(rows: list[Row]) -> Any:
    from matplotlib.figure import Figure

    tests, slices, models = (list(dict.fromkeys(row[key] for row in rows)) for key in ("test_set", "slice", "model"))
    metric, head = ("bleu", "BLEU") if "bleu" in rows[0] else ("rouge_l", "ROUGE-L")
    size = 2.5 + 5.5 * len(tests) ** 0.5, 0.3 * len(slices) * (len(models) + 1) + 1.2
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(tests), sharey=True, squeeze=False)[0]
    for panel, test in zip(panels, tests, strict=True):
        for place, model in enumerate(models):
            scores = {row["slice"]: row[metric] for row in rows if (row["model"], row["test_set"]) == (model, test)}
            measured = [index for index, name in enumerate(slices) if name in scores]
            heights = [index + (place - (len(models) - 1) / 2) * 0.8 / len(models) for index in measured]
            widths = [scores[slices[index]] for index in measured]
            label = {"label": model} if test == tests[0] else {}
            panel.barh(heights, widths, 0.8 / len(models), color=html.COLOURS[place % len(html.COLOURS)], **label)
        panel.set_title(test if len(tests) > 1 else "")
        panel.set_xlabel(f"{head} without regard to case")
        panel.grid(axis="x", alpha=0.2)
    panels[0].set_yticks(range(len(slices)), slices)
    panels[0].invert_yaxis()
    figure.legend(loc="outside lower center", ncols=min(3, len(models)), frameon=False)
    return figure


def _with_share(row: Row) -> Row:
    return row | {"copied_share": row["copied_right"] / row["copied"] if row["copied"] else None}
