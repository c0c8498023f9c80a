"""The roofline results as Markdown: measured points, fit, and the core's rates."""

from __future__ import annotations

from benchmarks.measure.result_file import Row, Table
from benchmarks.reports.table import Column, Grid, grid_of, markdown_grid, measured_on
from benchmarks.roofline.analysis import GIGA, Analysis, analyse
from benchmarks.roofline.axes import PRECISIONS, VALUES
from benchmarks.roofline.work import WEIGHT_BYTES, Point, steps

LABELS = {"batch_size": "batch", "num_beams": "beams", "source_tokens": "source", "target_tokens": "output",
          "vocab_size": "vocabulary", "encoder_layers": "encoder", "decoder_layers": "decoder"}  # fmt: skip
UNITS = (("s", 1.0), ("ms", 1e3), ("µs", 1e6), ("ns", 1e9), ("ps", 1e12), ("fs", 1e15))

FIT_COLUMNS = (
    "“time”: the fitted coefficient, the time of one operation of this kind. “range”: its least and largest value over "
    "the fits that each leave one axis (a value of “varied”) out. “least”: its time at the core's rates."
)
"""The meaning of the columns of fitted terms."""


def markdown(table: Table) -> str:
    """Points, fit and rates as tables, with notes below each."""
    analyses = [analyse(table, precision) for precision in PRECISIONS]
    points, fitted, rates = points_grid(analyses), fit_grid(analyses), rates_grid(analyses[0])
    parts = [markdown_grid(points), points_note(analyses[0].base), markdown_grid(fitted), FIT_COLUMNS]
    parts += map(fit_note, analyses)
    return "\n\n".join([*parts, markdown_grid(rates), *map(share_note, analyses), settings_note(table)]) + "\n"


def points_grid(analyses: list[Analysis]) -> Grid:
    """A line for each point, precisions side by side."""
    columns = [Column("axis", "varied"), Column("value", "value")]
    for one in analyses:
        name = one.precision
        columns += [Column(f"{name} ms", f"{name} ms", ".2f"), Column(f"{name} ratio", "of base", ".2f")]
        columns += [Column(f"{name} error", "fit", "+.0%"), Column(f"{name} share", "roofline", ".0%")]
        columns += [Column(f"{name} limit", "by")]
    rows = []
    for lines in zip(*(one.lines for one in analyses), strict=True):
        row: Row = {"axis": lines[0].axis, "value": label(lines[0].axis, lines[0].point, analyses[0].base)}
        for one, line in zip(analyses, lines, strict=True):
            limit = "reading" if line.bound.reading > line.bound.multiplying else "multiplying"
            cells = {"ms": 1e3 * line.seconds, "ratio": line.ratio, "error": line.error, "share": line.share}
            row |= {f"{one.precision} {key}": value for key, value in {**cells, "limit": limit}.items()}
        rows.append(row)
    return grid_of(columns, rows)


def label(axis: str, point: Point, base: Point) -> str:
    """A point's value on its axis; every difference from the base where several things differ."""
    if axis in VALUES:
        return f"{getattr(point, VALUES[axis][0]):,}"
    pairs = zip(Point._fields, point, base, strict=True)
    return ", ".join(f"{LABELS[field]} {value:,}" for field, value, usual in pairs if value != usual)


def fit_grid(analyses: list[Analysis]) -> Grid:
    """A line for each term: seconds per operation, their range when an axis is left out, and the core's best."""
    heads = {"s": " time", "range": " range", "least": " least"}
    columns = [Column("term", "time of one")]
    columns += [
        Column(f"{a.precision} {key}", a.precision + head, "s") for a in analyses for key, head in heads.items()
    ]
    rows = []
    for term in analyses[0].fit.coefficients:
        row: Row = {"term": term}
        for one in analyses:
            low, high = one.fit.ranges[term]
            least = _least(one).get(term)
            row[f"{one.precision} s"] = duration(one.fit.coefficients[term])
            row[f"{one.precision} range"] = f"{duration(low)} to {duration(high)}"
            row[f"{one.precision} least"] = None if least is None else duration(least)
        rows.append(row)
    return grid_of(columns, rows)


def _least(one: Analysis) -> dict[str, float]:
    """Seconds per operation at the core's rates, of the terms that these bound, at the base."""
    matmul, step = 1 / one.rates.matmuls[one.precision], next(steps(one.base))
    return {
        "encoder multiply-add": matmul,
        "weight of a step": WEIGHT_BYTES[one.precision] / one.rates.reading(step.bytes(one.precision)),
        "step multiply-add": matmul,
        "attention multiply-add": 1 / one.rates.matmuls["fp32"],
    }


def duration(seconds: float) -> str:
    """Three digits in a unit that leaves at least one before the point."""
    rounded = float(f"{seconds:.3g}")
    unit, factor = next(((unit, factor) for unit, factor in UNITS if rounded * factor >= 0.999999), UNITS[-1])
    return f"{float(f'{rounded * factor:.3g}'):g} {unit}" if seconds else "0"


def rates_grid(one: Analysis) -> Grid:
    """The core's rates."""
    cells = {f"reads {size} MB": f"{rate / GIGA:.1f} GB/s" for size, rate in one.rates.bandwidth.items()}
    cells |= {f"multiplies {name}": f"{rate / GIGA:.1f} G/s" for name, rate in one.rates.matmuls.items()}
    return Grid(["the core", *cells], [False, *[True] * len(cells)], [["best", *cells.values()]])


def points_note(base: Point) -> str:
    """The base, and the meaning of the columns of points."""
    return (
        f"The base has {base.encoder_layers}+{base.decoder_layers} layers, d {base.d_model}, feed-forward layers of "
        f"{base.ffn:,}, a vocabulary of {base.vocab_size:,}, {base.source_tokens} source and {base.target_tokens} "
        f"output tokens, batch {base.batch_size}, {base.num_beams} beam; random weights, one thread. “of base”: time "
        "over the base's in the same turns. “fit”: error of the fitted formula below. “roofline”: the least time that "
        "the core's rates allow, over the measured time; “by”: what takes longer in that least time, reading memory or "
        "multiplying."
    )


def fit_note(one: Analysis) -> str:
    """How good the fit is, and how well it predicts an axis that was left out."""
    missed = ", ".join(f"{axis} {typical:.0%} ({worst:.0%})" for axis, (typical, worst) in one.fit.left_out.items())
    return (
        f"{one.precision}: time is the sum of these terms, each times its count. R² {one.fit.r_squared:.4f}; the error "
        f"is {one.fit.typical:.1%} in the median and {one.fit.worst:.0%} at worst. Error (median, worst) on an axis "
        f"that was left out of the fit: {missed}."
    )


def share_note(one: Analysis) -> str:
    """The share of the roofline that is reached."""
    shares = [line.share for line in one.lines]
    at_base = next(line.share for line in one.lines if line.point == one.base)
    between = f"{min(shares):.0%} to {max(shares):.0%}"
    return f"{one.precision}: the base reaches {at_base:.0%} of the roofline, all points {between}."


def settings_note(table: Table) -> str:
    """Effort, machine and date."""
    settings = table["provenance"].get("roofline") or {}
    hurried = " Measured with `--quick`: not to be quoted." if settings.get("quick") else ""
    rounds = f"Medians of {settings['rounds']} turns of {settings['turn_s']:g} s." if settings else ""
    return " ".join([rounds + hurried, *measured_on(table["provenance"], "onnxruntime")]).strip()
