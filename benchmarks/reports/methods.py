"""The comparison of methods as Markdown tables, one a task, and as a plot."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.measure.result_file import Row, Table
from benchmarks.reports import html
from benchmarks.reports.table import Column, grid_of, markdown_grid, measured_on

METRICS = {"test_bleu": "BLEU", "test_rouge_l": "ROUGE-L"}
"""Headline score in a row to its name."""
RUN = ("student", "method", "data", "seed", "updates")
COLUMNS = (
    Column("student", "student"),
    Column("method", "method"),
    Column("data", "data"),
    Column("seed", "seed", "d"),
    Column("parameters", "parameters", ",d"),
    Column("updates", "updates", ",d"),
    Column("minutes", "minutes", ".0f"),
    Column("dev_score", "dev", ".1f"),
)


def markdown(table: Table) -> str:
    """A table for each task: a line for the teacher's searches and for each run, test sets side by side."""
    return "\n".join(map(_of_task, table["tasks"]))


def _of_task(task: dict[str, Any]) -> str:
    metric = _metric(task)
    tests = list(dict.fromkeys(row["test_set"] for row in task["rows"]))
    scores = (Column(test, f"{test} {METRICS[metric]}") for test in tests)
    columns = (*COLUMNS, *scores, Column("agreement", "agreement", ".1%"))
    grid = markdown_grid(grid_of(columns, [*_teacher_lines(task, metric), *_run_lines(task["rows"], metric)]))
    note = (
        "In brackets: the gain over `vanilla` of the same student, and the interval with 95% of the resamples of the "
        "test set (paired bootstrap). Students search greedily, in fp32. Agreement: share of their tokens "
        "that the teacher would write next, too, the mean of the test sets."
    )
    return f"**{task['task']}**\n\n{grid}\n\n{' '.join([note, *measured_on(task['provenance'], 'torch')])}\n"


def _metric(task: dict[str, Any]) -> str:
    return next(name for name in METRICS if name in task["rows"][0])


def _teacher_lines(task: dict[str, Any], metric: str) -> list[Row]:
    scores, parameters = task["teacher"]["scores"], task["teacher"]["parameters"]
    beams = {test: one["num_beams"] for test, one in scores.items()}
    searches = {"greedy": "greedy"} | {f"{count} beams": metric for count in beams.values()}
    return [
        {"student": "teacher", "method": name, "parameters": parameters}
        | {test: f"{one[key]:.1f}" for test, one in scores.items()}
        for name, key in searches.items()
    ]


def _run_lines(rows: list[Row], metric: str) -> list[Row]:
    """A line for each run, from its rows."""
    lines: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        line = lines.setdefault(tuple(row[key] for key in RUN), row | {"minutes": (row["seconds"] or 0) / 60})
        line[row["test_set"]] = _score(row, metric)
        line.setdefault("agreements", []).append(row["teacher_agreement"])
    return [line | {"agreement": _mean(line["agreements"])} for line in lines.values()]


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _score(row: Row, metric: str) -> str:
    score = f"{row[metric]:.1f}"
    if row["delta_vs_vanilla"] is None:
        return score
    low, high = row["delta_ci95"]
    return f"{score} ({row['delta_vs_vanilla']:+.1f}: {low:+.1f} to {high:+.1f})"


def plot_file(table: Table) -> str:
    """A point with its interval for each run: the gain over Vanilla, a panel a task and test set, as an SVG file.

    Raises DependencyError without matplotlib.
    """
    return html.figure_file(lambda: _figure(table["tasks"]))


def _figure(tasks: list[dict[str, Any]]) -> Any:
    from matplotlib.figure import Figure

    panels = [(task, test) for task in tasks for test in task["teacher"]["scores"]]
    chosen = [
        [row for row in task["rows"] if row["test_set"] == test and row["delta_vs_vanilla"] is not None]
        for task, test in panels
    ]
    figure = Figure(figsize=(8, 0.28 * sum(map(len, chosen)) + 1.1 * len(panels)), layout="constrained")
    heights = [max(1, len(rows)) for rows in chosen]
    axes = figure.subplots(len(panels), squeeze=False, height_ratios=heights, sharex=True)[:, 0]
    for axis, (task, test), rows in zip(axes, panels, chosen, strict=True):
        gains = [row["delta_vs_vanilla"] for row in rows]
        ends = [
            [gain - row["delta_ci95"][0] for gain, row in zip(gains, rows, strict=True)],
            [row["delta_ci95"][1] - gain for gain, row in zip(gains, rows, strict=True)],
        ]
        axis.errorbar(gains, range(len(rows)), xerr=ends, fmt="o", color=html.COLOURS[0], capsize=2, markersize=4)
        axis.axvline(0, color="grey", linewidth=0.8)
        axis.set_yticks(
            range(len(rows)), [f"{row['student']} {row['method']} {row['seed']}" for row in rows], fontsize=8
        )
        axis.invert_yaxis()
        axis.set_title(f"{task['task']}, {test}: {METRICS[_metric(task)]} over vanilla", fontsize=9)
        axis.grid(axis="x", alpha=0.2)
    return figure
