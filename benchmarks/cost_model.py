"""What the points of ``benchmarks.cost`` say: a fit of their times, and the share of the core's floor they reach."""

from __future__ import annotations

from typing import Any, NamedTuple

from benchmarks.counts import Floor, Point, floor, terms
from benchmarks.fit import Fit, fit
from benchmarks.floors import Rates
from benchmarks.report import Row
from benchmarks.timing import median

FIELDS = {
    "output tokens": "target_tokens",
    "source tokens": "source_tokens",
    "beams": "num_beams",
    "batch": "batch_size",
    "vocabulary": "vocab_size",
    "encoder layers": "encoder_layers",
    "decoder layers": "decoder_layers",
}
"""Axis to the field of a point that varies along it."""

GIGA = 1e9


class Line(NamedTuple):
    """A measured point."""

    axis: str
    point: Point
    ratio: float
    """To the base in the same turns."""
    seconds: float
    """This ratio times the base's median over all axes."""
    error: float
    """Of the fit: predicted / measured - 1."""
    floor: Floor

    @property
    def share(self) -> float:
        """Of the floor that is reached: 1 is as fast as the core can."""
        return self.floor.seconds / self.seconds


class Model(NamedTuple):
    """All that is said of a precision."""

    precision: str
    base: Point
    lines: list[Line]
    fit: Fit
    rates: Rates

    def predict(self, point: Point) -> float:
        """Seconds, by the fit."""
        return sum(self.fit.coefficients[name] * value for name, value in terms(point).items())

    def floor(self, point: Point) -> Floor:
        """At this core's rates."""
        return floor(point, self.precision, self.rates)


def model(table: dict[str, Any], precision: str) -> Model:
    """Fits the rows of a precision; a point that is on several axes counts once."""
    base, rates = Point(**table["base"]), typical(table["rates"])
    rows = [row for row in table["rows"] if row["precision"] == precision]
    base_s = median([row["base_ms"] for row in rows]) / 1e3
    measured = [(row["axis"], point_of(row), row["p50_ms"] / row["base_ms"]) for row in rows]
    distinct = {point: (axis, ratio) for axis, point, ratio in measured if point != base} | {base: ("", 1.0)}
    design = [terms(point) for point in distinct]
    found = fit(
        {name: [values[name] for values in design] for name in design[0]},
        [base_s * ratio for _, ratio in distinct.values()],
        [axis for axis, _ in distinct.values()],
    )
    errors = dict(zip(distinct, found.errors, strict=True))
    lines = [
        Line(axis, point, ratio, base_s * ratio, errors[point], floor(point, precision, rates))
        for axis, point, ratio in measured
    ]
    return Model(precision, base, lines, found, rates)


def point_of(row: Row) -> Point:
    """The point of a row."""
    return Point(*(row[field] for field in Point._fields))


def rates_row(rates: Rates) -> Row:
    """Rates as JSON: billions a second."""
    bandwidth = {str(size): round(rate / GIGA, 2) for size, rate in rates.bandwidth.items()}
    return {"gb_per_s": bandwidth, "gmac_per_s": {name: round(rate / GIGA, 2) for name, rate in rates.products.items()}}


def typical(rows: list[Row]) -> Rates:
    """The median of rates that were measured at several times."""
    bandwidth, products = (
        {name: GIGA * median([row[key][name] for row in rows]) for name in rows[0][key]}
        for key in ("gb_per_s", "gmac_per_s")
    )
    return Rates({int(size): rate for size, rate in bandwidth.items()}, products)
