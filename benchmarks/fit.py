"""Least squares with coefficients that are not negative: each is the time of something that was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.timing import median

Vector = np.ndarray[Any, np.dtype[np.float64]]

TOLERANCE = 1e-10
"""What counts as nothing, of numbers around one."""


class Fit(NamedTuple):
    """What was fitted, and how well. Errors are relative: predicted / measured - 1."""

    coefficients: dict[str, float]
    """Term to seconds a unit of it; 0 where the term explains nothing that the others do not."""
    ranges: dict[str, tuple[float, float]]
    """Least and greatest of each when one group is left out: how far the data pin it down."""
    errors: list[float]
    """Of every point."""
    r_squared: float
    """Share of the variance of the seconds that is explained."""
    left_out: dict[str, tuple[float, float]]
    """Group to the median and the worst size of its errors, where its points took no part in the fit."""

    @property
    def typical(self) -> float:
        """Median size of an error."""
        return median([abs(error) for error in self.errors])

    @property
    def worst(self) -> float:
        """Size of the largest error."""
        return max(abs(error) for error in self.errors)


def fit(terms: Mapping[str, Sequence[float]], seconds: Sequence[float], groups: Sequence[str]) -> Fit:
    """Seconds as a sum of terms, with the least sum of squared relative errors.

    Args:
        terms: Name to the term's value at each point.
        seconds: Measured, above 0.
        groups: Name of each point's group; groups are left out of the fit in turn. Points of the group ``""`` never
            are.
    """
    design, measured = np.array(list(terms.values()), np.float64).T, np.array(seconds, np.float64)
    found = _relative(design, measured)
    predicted, kind = design @ found, np.array(groups)
    partial, left_out = [found], {}
    for group in dict.fromkeys(group for group in groups if group):
        rest, out = kind != group, kind == group
        partial.append(_relative(design[rest], measured[rest]))
        sizes = np.abs(design[out] @ partial[-1] / measured[out] - 1).tolist()
        left_out[group] = median(sizes), max(sizes)
    spread = measured - measured.mean()
    least, greatest = np.min(partial, axis=0).tolist(), np.max(partial, axis=0).tolist()
    return Fit(
        coefficients=dict(zip(terms, found.tolist(), strict=True)),
        ranges=dict(zip(terms, zip(least, greatest, strict=True), strict=True)),
        errors=(predicted / measured - 1).tolist(),
        r_squared=float(1 - np.sum((measured - predicted) ** 2) / np.sum(spread**2)),
        left_out=left_out,
    )


def _relative(design: Vector, measured: Vector) -> Vector:
    return nonnegative(design / measured[:, None], np.ones_like(measured))


def nonnegative(design: Vector, target: Vector) -> Vector:
    """The x >= 0 that has the least |design x - target|: [points, terms] and [points] to [terms].

    The active sets of Lawson and Hanson (Solving Least Squares Problems, 1974, chapter 23): terms are taken in while
    one would help, and one that the others push below zero leaves again.
    """
    sizes = np.linalg.norm(design, axis=0)
    sizes[sizes == 0] = 1.0
    scaled = design / sizes  # terms differ by ten orders of magnitude
    found, taken = np.zeros(len(sizes)), np.zeros(len(sizes), bool)
    for _ in range(3 * len(sizes)):
        pull = np.where(taken, 0.0, scaled.T @ (target - scaled @ found))
        if pull.max() <= TOLERANCE * np.linalg.norm(target):
            break
        taken[pull.argmax()] = True
        while (wanted := _solution(scaled, target, taken))[taken].min() <= 0:
            below = taken & (wanted <= 0)
            way = (found[below] / (found[below] - wanted[below])).min()  # as far as the first of them allows
            found += way * (wanted - found)
            taken &= found > TOLERANCE
        found = wanted
    solution: Vector = found / sizes
    return solution


def _solution(design: Vector, target: Vector, taken: np.ndarray[Any, np.dtype[np.bool_]]) -> Vector:
    """Least squares on the terms that are taken; the others are 0."""
    solution = np.zeros(len(taken))
    solution[taken] = np.linalg.lstsq(design[:, taken], target, rcond=None)[0]
    return solution
