"""Linear layers in bf16 against the same products in float64, and the number of sizes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from compressor.models.linear import Linear, filled_rows


def test_few_sizes_that_fill_up_little() -> None:
    sizes = {filled_rows(rows) for rows in range(1, 4097)}
    assert len(sizes) == 512 // 16 + 3 * 16
    assert all(filled_rows(rows) >= rows for rows in range(4097))
    assert all(filled_rows(rows) <= rows * 17 / 16 for rows in range(256, 4097))


@pytest.mark.parametrize("rows", [1, 37, 999, 1024])
@pytest.mark.parametrize("bias", [False, True])
def test_products_and_gradients_are_those_of_float64(rows: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer, inputs = Linear(24, 40, bias=bias), torch.randn(1, rows, 24, requires_grad=True)
    upstream = torch.randn(1, rows, 40).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = layer(inputs)
    outputs.backward(upstream)

    rounded = [value.detach().bfloat16().double() for value in (inputs, layer.weight)]
    expected = rounded[0] @ rounded[1].T + (layer.bias.detach().double() if bias else 0.0)
    _near(outputs, expected)
    given = upstream.double()
    _near(inputs.grad, given @ rounded[1])
    _near(layer.weight.grad, given[0].T @ rounded[0][0])
    if bias:
        _near(layer.bias.grad, given.sum(dim=(0, 1)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_gradient_and_autocast(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer, inputs = Linear(8, 5).to(dtype), torch.randn(3, 7, 8, dtype=dtype)
    with torch.no_grad():
        outputs = layer(inputs)
        assert outputs.dtype == dtype and outputs.shape == (3, 7, 5)
        _near(outputs, inputs.double() @ layer.weight.double().T + layer.bias.double())


def _near(value: Tensor | None, expected: Tensor) -> None:
    """Checks that values are those expected, but for the rounding of bf16 at the scale of the largest."""
    assert value is not None
    torch.testing.assert_close(value.double(), expected, rtol=2**-7, atol=2**-7 * float(expected.abs().max()))
