"""Coefficients that are known beforehand come back; the fit meets the conditions that make it the best."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.roofline.analysis import fit, median_rates
from benchmarks.roofline.rates import Rates

TRUE = {"call": 2e-4, "step": 1.5e-4, "multiply-add": 1.2e-11, "nothing": 0.0}
STEPS, WORK, OTHER = [5, 10, 25, 50, 25, 25], [1e6, 2e6, 5e6, 1e7, 4e7, 3e8], [1, 0, 2, 0, 5, 1]
COUNTS = [
    {"call": 1.0, "step": count, "multiply-add": work, "nothing": other}
    for count, work, other in zip(STEPS, WORK, OTHER, strict=True)
]
SECONDS = [2e-4 + 1.5e-4 * count + 1.2e-11 * work for count, work in zip(STEPS, WORK, strict=True)]


def test_known_coefficients_come_back() -> None:
    assert fit(COUNTS, SECONDS) == pytest.approx(TRUE, rel=1e-6, abs=1e-12)


def test_what_noise_would_make_negative_is_zero() -> None:
    noisy = [value * (1.01 if other else 0.99) ** -1 for value, other in zip(SECONDS, OTHER, strict=True)]
    coefficients = fit(COUNTS, noisy)
    assert coefficients["nothing"] == 0.0
    assert coefficients["multiply-add"] == pytest.approx(1.2e-11, rel=0.03)


def test_errors_count_in_proportion() -> None:
    # No constant explains 1 s and 100 s; the one with the least relative errors is near 1, not at the mean.
    coefficients = fit([{"call": 1}, {"call": 1}], [1.0, 100.0])
    assert coefficients["call"] == pytest.approx((1 + 1 / 100) / (1 + 1 / 100**2))


@pytest.mark.parametrize("seed", range(40))
def test_no_direction_that_stays_above_zero_is_better(seed: int) -> None:
    chance = np.random.default_rng(seed)
    counts, seconds = chance.standard_normal((12, 5)), chance.uniform(0.5, 2, 12)
    coefficients = fit([dict(zip("abcde", row, strict=True)) for row in counts.tolist()], seconds.tolist())
    solution, relative = np.array(list(coefficients.values())), counts / seconds[:, None]
    gradient = relative.T @ (relative @ solution - 1)  # the conditions of Karush, Kuhn and Tucker
    assert (solution >= 0).all() and (gradient >= -1e-9).all()
    assert np.abs(gradient * solution).max() < 1e-9


def test_a_term_that_never_occurs_is_zero() -> None:
    assert fit([{"a": 1, "b": 0}, {"a": 2, "b": 0}], [3.0, 6.0]) == {"a": pytest.approx(3.0), "b": 0.0}


def test_rates_are_medians_of_all_measurements() -> None:
    rows = [
        {"axis": "batch", "gb_per_s": {"1": reading, "256": 1.0}, "gmac_per_s": {"int8": multiplying, "fp32": 1.0}}
        for reading, multiplying in ((4.0, 1.0), (2.0, 7.0), (9.0, 2.0))
    ]
    assert median_rates(rows) == Rates({1: 4.0, 256: 1.0}, {"int8": 2.0, "fp32": 1.0})
