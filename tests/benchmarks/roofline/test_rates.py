"""The products that are timed are products; rates are amounts over times."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.roofline import rates


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_the_product_is_a_product(precision: str) -> None:
    (product,) = rates.matmul(precision, 3, 8, 5)()
    chance = np.random.default_rng(1)  # the numbers that the product is made from
    weight, values = chance.integers(-64, 65, (8, 5)), chance.integers(0, 256, (3, 8))
    zero = {"int8": 128, "fp32": 0}[precision]
    assert product.dtype == {"int8": np.int32, "fp32": np.float32}[precision]
    assert np.array_equal(product, (values - zero) @ weight)


def test_what_is_read_are_two_buffers_of_half_the_size() -> None:
    comparison = rates.comparison(10)
    assert comparison() and [len(part) for part in comparison.args] == [5, 5]  # type: ignore[attr-defined]
    assert comparison.args[0] is not comparison.args[1]  # type: ignore[attr-defined]


def test_rates_are_amounts_over_the_fastest_time(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([[0.0005, 0.0002], [0.002], [3e-9, 4e-9], [1e-9], [0.5e-9], [0.7e-9, 0.25e-9]])
    monkeypatch.setattr(rates, "MEGABYTES", (1, 2))
    monkeypatch.setattr(rates, "MATMULS", ((2, 4, 8), (1, 16, 2)))
    monkeypatch.setattr(rates, "repeat", lambda action, seconds: (action(), next(times))[1])
    measured = rates.measure(1.0)
    assert measured.gb_per_s == {1: 5.24, 2: 1.05}  # 2²⁰ bytes in 0.2 ms, 2²¹ in 2 ms
    assert measured.gmac_per_s == {"int8": 32.0, "fp32": 128.0}  # 64 in 3 ns, 32 in 1 ns; 64 in 0.5 ns, 32 in 0.25 ns
