"""The result of the exposure bench as Markdown tables and as plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.measure.result_file import Row, Table
from benchmarks.reports import html
from benchmarks.reports.table import Column, grid_of, markdown_grid, measured_on

COLUMNS = (
    Column("model", "model"),
    Column("student", "student"),
    Column("method", "method"),
    Column("reference_kl", "KL, references", ".3f"),
    Column("teacher_kl", "teacher's outputs", ".3f"),
    Column("own_kl", "own outputs", ".3f"),
    Column("over_references", "excess over references", "s"),
    Column("over_teacher", "over teacher's outputs", "s"),
    Column("reference_agreement", "agreement, references", ".1%"),
    Column("own_agreement", "own outputs", ".1%"),
    Column("bleu", "BLEU", ".1f"),
    Column("chrf", "chrF", ".1f"),
    Column("rouge_l", "ROUGE-L", ".1f"),
    Column("repetition_rate", "repetitive", ".2%"),
    Column("hallucination_rate", "hallucinated", ".2%"),
)
SCORES = {"bleu": "BLEU", "chrf": "chrF", "rouge_l": "ROUGE-L"}
DASHED, SOLID = "--", "-"


def markdown(table: Table) -> str:
    """A line for each model, then its scores by length of the reference."""
    rows, settings = table["rows"], table["settings"]
    last = max((row["last_position"] or 0 for row in rows), default=0)
    notes = [
        f"Test set {settings['test_set']}, {settings['examples']:,} examples, greedy search. KL: divergence "
        "KL(teacher ‖ student) in nats a token, mean over the positions that at least "
        f"{settings['least_examples']} examples reach, {last} at most. Excess: own outputs less those, with 95% "
        "bootstrap intervals over examples. Hallucinated: less probable to the teacher than 99% of its own outputs.",
        *measured_on(table["provenance"], "torch"),
    ]
    signatures = [f"Signature: `{one}`." for one in dict.fromkeys(row["signature"] for row in rows)]
    grids = [
        grid_of(COLUMNS, [_with_intervals(row) for row in rows]),
        grid_of(_length_columns(rows), [_by_length(row) for row in rows]),
    ]
    tables = [markdown_grid(grid) for grid in grids]
    return (
        "\n\n".join([tables[0], "Scores by tokens of the reference:", tables[1], " ".join([*notes, *signatures])])
        + "\n"
    )


def _with_intervals(row: Row) -> Row:
    """Returns a row with its excess over the other contexts as text; none of a teacher."""
    if row["excess"] is None:
        return row
    share = "" if row["excess_share"] is None else f", {row['excess_share']:+.0%}"
    excess, over_teacher = (
        f"{row[name]:+.3f} [{row[f'{name}_ci95'][0]:+.3f}, {row[f'{name}_ci95'][1]:+.3f}]"
        for name in ("excess", "excess_over_teacher")
    )
    return row | {"over_references": f"{excess}{share}", "over_teacher": over_teacher}


def _length_columns(rows: Sequence[Row]) -> list[Column]:
    """Returns a column for each score and group of lengths."""
    groups = dict.fromkeys(one["tokens"] for row in rows for one in row["lengths"])
    scores = [Column(f"{key} {name}", f"{head} {name}", ".1f") for key, head in SCORES.items() for name in groups]
    return [*COLUMNS[:3], *scores]


def _by_length(row: Row) -> Row:
    """Returns the scores of a row by length, side by side."""
    scores = {f"{key} {one['tokens']}": one[key] for one in row["lengths"] for key in SCORES}
    return {column.key: row[column.key] for column in COLUMNS[:3]} | scores


def plot_file(table: Table) -> str:
    """Four panels as an SVG file: divergence, its excess and agreement by position, the score by length.

    Raises:
        DependencyError: matplotlib is missing.
    """
    return html.figure_file(lambda: _figure(table["rows"]))


def _figure(rows: Sequence[Row]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7.5), layout="constrained")
    (divergence, excess), (agreement, quality) = figure.subplots(2, 2)
    for place, row in enumerate(rows):
        style: dict[str, Any] = {"color": html.COLOURS[place % len(html.COLOURS)], "linewidth": 1.4}
        style |= {"marker": html.MARKERS[place // len(html.COLOURS) % len(html.MARKERS)], "markersize": 3}
        for kind, line in (("reference", DASHED), ("own", SOLID)):
            _draw(divergence, row, "kl", kind, linestyle=line, **style)
            _draw(agreement, row, "agreement", kind, linestyle=line, **style)
        for base, line in (("reference", DASHED), ("teacher", SOLID)):
            _draw(excess, row, "kl", "own", base, linestyle=line, **style)
        score = next(key for key in ("bleu", "rouge_l") if row[key] is not None)
        groups = [(one["tokens"], one[score]) for one in row["lengths"]]
        quality.plot(*zip(*groups, strict=True) if groups else ([], []), label=_name(row), **style)
        quality.set_ylabel(SCORES[score])
    excess.axhline(0, color="0.6", linewidth=0.8)
    for panel, label in ((divergence, "KL(teacher ‖ student), nats"), (excess, "excess of own outputs, nats")):
        panel.set_ylabel(label)
    agreement.set_ylabel("agreement with the teacher's best token")
    quality.set_xlabel("tokens of the reference")
    for panel in (divergence, excess, agreement):
        panel.set_xlabel("position in the output")
    for panel in (divergence, excess, agreement, quality):
        panel.grid(alpha=0.2)
    for panel in (divergence, agreement):
        panel.set_title("solid: own outputs; dashed: references", fontsize=9)
    excess.set_title("solid: over the teacher's outputs; dashed: over references", fontsize=9)
    figure.legend(*quality.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _draw(panel: Any, row: Row, name: str, kind: str, base: str | None = None, **style: Any) -> None:
    """Draws a figure of one kind of context at each position, less that of another if given; a teacher has none."""
    positions = row["positions"]
    values = [one[kind][name] - (one[base][name] if base else 0) for one in positions]
    panel.plot([one["position"] for one in positions], values, **style)


def _name(row: Row) -> str:
    return f"{row['model']}, {row['method']}" if row["method"] else row["model"]
