"""Fits measured seconds as a sum of terms with non-negative coefficients: each is seconds per operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import nnls

from benchmarks.measure.timing import median

Vector = np.ndarray[Any, np.dtype[np.float64]]


class Fit(NamedTuple):
    """A fit, and how good it is. Errors are relative: predicted / measured - 1.

    Attributes:
        coefficients: Term to seconds per unit; 0 where it explains nothing that the other terms do not.
        ranges: Term to its least and greatest coefficient when one group is left out.
        errors: Error of every point.
        r_squared: Explained share of the variance of the seconds.
        left_out: Group to the median and the worst size of its errors when it is left out of the fit.
    """

    coefficients: dict[str, float]
    ranges: dict[str, tuple[float, float]]
    errors: list[float]
    r_squared: float
    left_out: dict[str, tuple[float, float]]

    @property
    def typical(self) -> float:
        """Median size of an error."""
        return median([abs(error) for error in self.errors])

    @property
    def worst(self) -> float:
        """Size of the largest error."""
        return max(abs(error) for error in self.errors)


def fit(terms: Mapping[str, Sequence[float]], seconds: Sequence[float], groups: Sequence[str]) -> Fit:
    """The fit with the least sum of squared relative errors.

    Args:
        terms: Name to the term's value at each point.
        seconds: Measured, above 0.
        groups: Name of each point's group. Groups are left out in turn, but for the group ``""``.
    """
    design, measured, group_of = np.array(list(terms.values()), float).T, np.array(seconds, float), np.array(groups)
    coefficients = _relative(design, measured)
    predicted = design @ coefficients
    partial, left_out = [coefficients], {}
    for group in dict.fromkeys(group for group in groups if group):
        out = group_of == group
        partial.append(_relative(design[~out], measured[~out]))
        sizes = np.abs(design[out] @ partial[-1] / measured[out] - 1).tolist()
        left_out[group] = median(sizes), max(sizes)
    least, greatest = np.min(partial, axis=0).tolist(), np.max(partial, axis=0).tolist()
    variance = np.sum((measured - measured.mean()) ** 2)
    return Fit(
        coefficients=dict(zip(terms, coefficients.tolist(), strict=True)),
        ranges=dict(zip(terms, zip(least, greatest, strict=True), strict=True)),
        errors=(predicted / measured - 1).tolist(),
        r_squared=float(1 - np.sum((measured - predicted) ** 2) / variance),
        left_out=left_out,
    )


def _relative(design: Vector, measured: Vector) -> Vector:
    return nonnegative(design / measured[:, None], np.ones_like(measured))


def nonnegative(design: Vector, target: Vector) -> Vector:
    """The x >= 0 with the least |design x - target|, solved with columns of equal norm."""
    norms = np.linalg.norm(design, axis=0)
    norms[norms == 0] = 1.0
    solution: Vector = nnls(design / norms, target)[0] / norms
    return solution
