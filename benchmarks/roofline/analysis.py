"""Analyses measured points of one precision: a fit of their times, and the share of the roofline that they reach."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from benchmarks.measure.result_file import Row, Table
from benchmarks.measure.timing import median
from benchmarks.roofline.rates import Rates
from benchmarks.roofline.work import Point, roofline, terms


def analyse(table: Table, precision: str) -> tuple[list[Row], dict[str, float]]:
    """The rows of a precision beside a fit of their times and the roofline, and the coefficients of the fit.

    Args:
        table: A result file; a point that is on several axes counts once in the fit.
        precision: One of its precisions.

    Returns:
        The rows with ``ratio`` to the base in the same turns, ``seconds`` (this ratio times the base's median),
        ``error`` of the fit (predicted / measured - 1), ``share`` of the roofline (1 is as fast as the core can be) and
        ``limit``, what takes its time; and seconds per operation by term.
    """
    rates = median_rates(table["rates"])
    rows = [row | {"ratio": row["p50_ms"] / row["base_ms"]} for row in table["rows"] if row["precision"] == precision]
    base_s = median([row["base_ms"] for row in rows]) / 1e3
    points = [Point(*(row[field] for field in Point._fields)) for row in rows]
    seconds = {point: base_s * row["ratio"] for point, row in zip(points, rows, strict=True)}
    coefficients = fit([terms(point) for point in seconds], list(seconds.values()))
    for row, point in zip(rows, points, strict=True):
        predicted = sum(coefficients[name] * count for name, count in terms(point).items())
        least, limit = roofline(point, precision, rates)
        row |= {"seconds": seconds[point], "error": predicted / seconds[point] - 1}
        row |= {"share": least / seconds[point], "limit": limit}
    return rows, coefficients


def fit(counts: list[dict[str, float]], seconds: list[float]) -> dict[str, float]:
    """The coefficients, 0 or more, with the least sum of squared relative errors.

    Args:
        counts: How often each point does each thing, by name.
        seconds: Measured time of each point, above 0.
    """
    design = np.array([list(point.values()) for point in counts]) / np.array(seconds)[:, None]
    norms = np.linalg.norm(design, axis=0)  # counts differ by many orders of magnitude
    norms[norms == 0] = 1
    solution = nnls(design / norms, np.ones(len(seconds)))[0] / norms
    return dict(zip(counts[0], solution.tolist(), strict=True))


def median_rates(rows: list[Row]) -> Rates:
    """The medians of rates that were measured at several times."""
    bandwidth, matmuls = ({name: median([row[key][name] for row in rows]) for name in rows[0][key]}
                          for key in Rates._fields)  # fmt: skip
    return Rates({int(size): rate for size, rate in bandwidth.items()}, matmuls)
