"""Analyses measured points of one precision: a fit of their times, and the share of the roofline that they reach."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.measure.result_file import Row, Table
from benchmarks.measure.timing import median
from benchmarks.roofline.fit import Fit, fit
from benchmarks.roofline.rates import Rates
from benchmarks.roofline.work import Bound, Point, bound, terms

GIGA = 1e9


class Line(NamedTuple):
    """A measured point.

    Attributes:
        axis: What varies along it.
        point: The search.
        ratio: Its time over the base's in the same turns.
        seconds: This ratio times the base's median over all axes.
        error: Error of the fit: predicted / measured - 1.
        bound: Its roofline.
    """

    axis: str
    point: Point
    ratio: float
    seconds: float
    error: float
    bound: Bound

    @property
    def share(self) -> float:
        """Share of the roofline that is reached; 1 is as fast as the core can be."""
        return self.bound.seconds / self.seconds


class Analysis(NamedTuple):
    """The points of one precision, with their fit and the core's rates."""

    precision: str
    base: Point
    lines: list[Line]
    fit: Fit
    rates: Rates

    def predict(self, point: Point) -> float:
        """Seconds of a search, by the fit."""
        return sum(self.fit.coefficients[name] * value for name, value in terms(point).items())


def analyse(table: Table, precision: str) -> Analysis:
    """The analysis of a result file's rows of a precision; a point that is on several axes counts once."""
    base, rates = Point(**table["base"]), median_rates(table["rates"])
    rows = [row for row in table["rows"] if row["precision"] == precision]
    base_s = median([row["base_ms"] for row in rows]) / 1e3
    measured = [(row["axis"], point_of(row), row["p50_ms"] / row["base_ms"]) for row in rows]
    distinct = {point: (axis, ratio) for axis, point, ratio in measured if point != base} | {base: ("", 1.0)}
    design = [terms(point) for point in distinct]
    fitted = fit(
        {name: [values[name] for values in design] for name in design[0]},
        [base_s * ratio for _, ratio in distinct.values()],
        [axis for axis, _ in distinct.values()],
    )
    errors = dict(zip(distinct, fitted.errors, strict=True))
    lines = [
        Line(axis, point, ratio, base_s * ratio, errors[point], bound(point, precision, rates))
        for axis, point, ratio in measured
    ]
    return Analysis(precision, base, lines, fitted, rates)


def point_of(row: Row) -> Point:
    """The point of a row."""
    return Point(*(row[field] for field in Point._fields))


def rates_row(rates: Rates) -> Row:
    """Rates as JSON, in billions a second."""
    bandwidth = {str(size): round(rate / GIGA, 2) for size, rate in rates.bandwidth.items()}
    return {"gb_per_s": bandwidth, "gmac_per_s": {name: round(rate / GIGA, 2) for name, rate in rates.matmuls.items()}}


def median_rates(rows: list[Row]) -> Rates:
    """The medians of rates that were measured at several times."""
    bandwidth, matmuls = (
        {name: GIGA * median([row[key][name] for row in rows]) for name in rows[0][key]}
        for key in ("gb_per_s", "gmac_per_s")
    )
    return Rates({int(size): rate for size, rate in bandwidth.items()}, matmuls)
