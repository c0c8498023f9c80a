"""The roofline results as Markdown: measured points, fit, and the core's rates."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.ticker import EngFormatter

from benchmarks.measure.result_file import Row, Table
from benchmarks.measure.timing import median
from benchmarks.reports.table import Grid, markdown_grid, measured_on
from benchmarks.roofline.analysis import analyse, median_rates
from benchmarks.roofline.axes import PRECISIONS, VALUES
from benchmarks.roofline.rates import Rates

LABELS = {"batch_size": "batch", "num_beams": "beams", "source_tokens": "source", "target_tokens": "output",
          "vocab_size": "vocabulary", "encoder_layers": "encoder", "decoder_layers": "decoder"}  # fmt: skip


def markdown(table: Table) -> str:
    """Points, fit and rates as tables, with notes."""
    rows, fits = zip(*(analyse(table, precision) for precision in PRECISIONS), strict=True)
    grids = [points_grid(rows, table["base"]), fit_grid(fits), rates_grid(median_rates(table["rates"]))]
    return "\n\n".join([*map(markdown_grid, grids), *map(precision_note, rows), settings_note(table)]) + "\n"


def points_grid(precisions: Sequence[list[Row]], base: Row) -> Grid:
    """A line for each point, precisions side by side."""
    heads, numeric = ["varied", "value"], [False, False]
    lines = [[row["axis"], label(row, base)] for row in precisions[0]]
    for rows in precisions:
        heads += [f"{rows[0]['precision']} ms", "of base", "fit", "roofline", "by"]
        numeric += [True, True, True, True, False]
        for cells, row in zip(lines, rows, strict=True):
            cells += [f"{1e3 * row['seconds']:.2f}", f"{row['ratio']:.2f}", f"{row['error']:+.0%}"]
            cells += [f"{row['share']:.0%}", row["limit"]]
    return Grid(heads, numeric, lines)


def label(row: Row, base: Row) -> str:
    """A point's value on its axis; every difference from the base where several things differ."""
    if row["axis"] in VALUES:
        return f"{row[VALUES[row['axis']][0]]:,}"
    return ", ".join(f"{LABELS[field]} {row[field]:,}" for field, usual in base.items() if row[field] != usual)


def fit_grid(fits: Sequence[dict[str, float]]) -> Grid:
    """A line for each term: seconds per operation, in three digits."""
    text = EngFormatter("s")
    lines = [[term, *(text(float(f"{fit[term]:.3g}")) for fit in fits)] for term in fits[0]]
    return Grid(["time of one", *PRECISIONS], [False, *[True] * len(fits)], lines)


def rates_grid(rates: Rates) -> Grid:
    """The core's rates."""
    cells = {f"reads {size} MB": f"{rate:.1f} GB/s" for size, rate in rates.gb_per_s.items()}
    cells |= {f"multiplies {name}": f"{rate:.1f} G/s" for name, rate in rates.gmac_per_s.items()}
    return Grid(["the core", *cells], [False, *[True] * len(cells)], [["best", *cells.values()]])


def precision_note(rows: list[Row]) -> str:
    """How good the fit is, and the share of the roofline that is reached."""
    errors, shares = [abs(row["error"]) for row in rows], [row["share"] for row in rows]
    fitted = f"the fit is {median(errors):.0%} off in the median, {max(errors):.0%} at worst"
    return f"{rows[0]['precision']}: {fitted}; all points reach {min(shares):.0%} to {max(shares):.0%} of the roofline."


def settings_note(table: Table) -> str:
    """Effort, machine and date."""
    settings = table["provenance"]["roofline"]
    hurried = ["Measured with `--quick`: not to be quoted."] if settings["quick"] else []
    effort = f"Medians of {settings['rounds']} turns of {settings['turn_s']:g} s."
    return " ".join([effort, *hurried, *measured_on(table["provenance"], "onnxruntime")])
