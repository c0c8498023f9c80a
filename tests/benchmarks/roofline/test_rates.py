"""The products that are timed are products; rates are amounts over times."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.roofline import rates


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_the_product_is_a_product(precision: str) -> None:
    (found,) = rates.matmul(precision, 3, 8, 5)()
    chance = np.random.default_rng(1)  # the numbers that the product is made from
    expected: Any
    if precision == "int8":
        weight = chance.integers(-64, 65, (8, 5)).astype(np.int8).astype(int)
        expected = (chance.integers(0, 256, (3, 8)) - 128) @ weight
    else:
        weight = chance.standard_normal((8, 5)).astype(np.float32)
        expected = chance.standard_normal((3, 8)).astype(np.float32) @ weight
    assert found.shape == (3, 5) and np.allclose(found, expected, atol=1e-5)


def test_rates_are_amounts_over_the_fastest_time(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([[0.5, 0.6], [0.25], [2.0], [4.0], [3.0], [1.0], [0.5], [0.7, 0.25]])
    monkeypatch.setattr(rates, "MEGABYTES", (1, 2))
    monkeypatch.setattr(rates, "MATMULS", ((2, 4, 8), (1, 16, 2)))
    monkeypatch.setattr(rates, "repeat", lambda action, seconds: (action(), next(times))[1])
    found = rates.measure(1.0)
    assert found.bandwidth == {1: 4 * 2**20, 2: 2**20}  # the faster of two ways to read
    assert found.matmuls == {"int8": 32.0, "fp32": 128.0}  # 64 in 3 s, 32 in 1 s; 64 in 0.5 s, 32 in 0.25 s
