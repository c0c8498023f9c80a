"""Coefficients that are known beforehand come back; the solution meets the conditions that make it the best."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.roofline.fit import fit, nonnegative

TRUE = {"call": 2e-4, "step": 1.5e-4, "multiply-add": 1.2e-11, "nothing": 0.0}
STEPS, WORK, OTHER = [5, 10, 25, 50, 25, 25], [1e6, 2e6, 5e6, 1e7, 4e7, 3e8], [1, 0, 2, 0, 5, 1]
TERMS = {"call": [1.0] * 6, "step": STEPS, "multiply-add": WORK, "nothing": OTHER}
SECONDS = [2e-4 + 1.5e-4 * count + 1.2e-11 * work for count, work in zip(STEPS, WORK, strict=True)]
GROUPS = ["length", "length", "", "length", "batch", "batch"]


def test_known_coefficients_come_back() -> None:
    found = fit(TERMS, SECONDS, GROUPS)
    assert found.coefficients == pytest.approx(TRUE, rel=1e-6, abs=1e-12)
    assert found.r_squared == pytest.approx(1.0) and found.worst < 1e-9 and found.typical < 1e-9
    assert list(found.left_out) == ["length", "batch"]


def test_what_noise_would_make_negative_is_zero() -> None:
    seconds = [value * (1.01 if other else 0.99) ** -1 for value, other in zip(SECONDS, OTHER, strict=True)]
    found = fit(TERMS, seconds, GROUPS)
    assert found.coefficients["nothing"] == 0.0
    assert found.coefficients["multiply-add"] == pytest.approx(1.2e-11, rel=0.03)
    assert 0 < found.typical <= found.worst < 0.03


def test_a_group_that_is_left_out_is_predicted_from_the_others() -> None:
    # By the others a step takes 1 s, and by itself a call of the group "odd" takes twice what its 10 steps do.
    found = fit({"step": [1, 2, 4, 10]}, [1.0, 2.0, 4.0, 20.0], ["a", "a", "", "odd"])
    assert found.left_out["odd"] == (pytest.approx(0.5), pytest.approx(0.5))
    low, high = found.ranges["step"]
    assert low == pytest.approx(1.0) and low < found.coefficients["step"] < high
    # The group "a" left out: (4, 1) and (10, 2) seconds a step, relative least squares by hand.
    assert high == pytest.approx((1 + 1 / 2) / (1 + 1 / 4))


def test_errors_count_in_proportion() -> None:
    # No constant explains 1 s and 100 s; the one with the least relative errors is near 1, not at the mean.
    found = fit({"call": [1, 1]}, [1.0, 100.0], ["", ""])
    assert found.coefficients["call"] == pytest.approx((1 + 1 / 100) / (1 + 1 / 100**2))
    assert found.left_out == {}


@pytest.mark.parametrize("seed", range(40))
def test_no_direction_that_stays_above_zero_is_better(seed: int) -> None:
    chance = np.random.default_rng(seed)
    design, target = chance.standard_normal((12, 5)), chance.standard_normal(12)
    found = nonnegative(design, target)
    gradient = design.T @ (design @ found - target)  # the conditions of Karush, Kuhn and Tucker
    assert (found >= 0).all() and (gradient >= -1e-9).all()
    assert np.abs(gradient * found).max() < 1e-9


def test_a_term_that_never_occurs_is_zero() -> None:
    assert nonnegative(np.array([[1.0, 0.0], [2.0, 0.0]]), np.array([3.0, 6.0])).tolist() == [pytest.approx(3.0), 0.0]
