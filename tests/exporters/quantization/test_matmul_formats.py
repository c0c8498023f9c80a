"""Matmuls with weights in 4-bit and 8-bit blocks against numpy; rows are independent."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from compressor.exporters.quantization.kernel_choice import matmul_model
from compressor.exporters.quantization.matmul_formats import quantize_weight_blocks, weight_block
from compressor.exporters.quantization.rewrite import quantize, weight_matmuls

Array = np.ndarray[Any, Any]


def dequantized(levels: Array, scales: Array, bits: int, d: int) -> Array:
    """[d, columns], by the operator's definition: two levels in a byte, the first in the low bits; zero is 8 or 128."""
    values = levels.astype(np.int32)
    if bits == 4:
        values = np.stack([values & 15, values >> 4], axis=-1).reshape(*values.shape[:-1], -1)
    weights = (values - 2 ** (bits - 1)) * scales[..., None]
    return weights.reshape(len(levels), -1)[:, :d].T


@pytest.mark.parametrize(
    ("d", "bits", "expected"),
    [(256, 4, 32), (48, 4, 32), (256, 8, 256), (1024, 8, 256), (384, 8, 128), (48, 8, 16), (20, 8, 16)],
)
def test_weight_block_size(d: int, bits: int, expected: int) -> None:
    assert weight_block(d, bits) == expected


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("d", [64, 40], ids=["whole blocks", "a padded block"])
def test_block_weights_round_within_half_a_level(bits: int, d: int) -> None:
    weight = np.random.default_rng(0).normal(size=(d, 6)).astype(np.float32)
    weight[:, 2] = 0
    levels, scales = quantize_weight_blocks(weight, bits)
    block = weight_block(d, bits)
    blocks = -(-d // block)
    assert levels.dtype == np.uint8 and levels.shape == (6, blocks, block * bits // 8) and scales.shape == (6, blocks)
    actual = dequantized(levels, scales, bits, d)
    assert np.all(actual[:, 2] == 0)
    if bits == 8:
        steps = np.repeat(np.abs(scales), block, axis=1)[:, :d].T
        assert np.all(np.abs(actual - weight) <= steps / 2 + 1e-6)
    else:
        assert np.square(actual - weight).mean() < 0.01 * np.square(weight).mean()


def test_fitted_4_bit_scale_rounds_no_worse_than_the_scale_of_the_largest_weight() -> None:
    weight = np.random.default_rng(1).normal(size=(256, 16)).astype(np.float32)
    actual = dequantized(*quantize_weight_blocks(weight, 4), 4, 256)
    grouped = weight.T.reshape(16, 8, 32)
    largest = np.take_along_axis(grouped, np.abs(grouped).argmax(axis=-1, keepdims=True), axis=-1)
    plain = np.clip(np.rint(grouped / (largest / -8)), -8, 7) * (largest / -8)
    errors = [np.square(one.reshape(16, 8, 32) - grouped).sum(axis=-1) for one in (actual.T, plain)]
    assert np.all(errors[0] <= errors[1] + 1e-4) and errors[0].sum() < 0.95 * errors[1].sum()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("d", [64, 48], ids=["whole blocks", "a padded block"])
def test_block_matmul_matches_numpy_and_rows_are_independent(bits: int, d: int) -> None:
    """ONNX Runtime rounds activations to 8 bits a row and block, or not at all: both lie within half a level."""
    model = matmul_model(d, 12)
    (only,) = weight_matmuls(model)
    weight, bias = (model.graph.initializers[name].const_value.numpy() for name in ("weight", "bias"))  # type: ignore[union-attr]
    quantize(model, 0, {}, bits={only.key: bits})
    (node,) = (node for node in model.graph if node.op_type == "MatMulNBits")
    assert node.attributes.get_int("accuracy_level", 0) == 4 and len(list(model.graph)) == 1  # the bias is in it
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    x = np.random.default_rng(2).uniform(-3, 5, size=(2, 7, d)).astype(np.float32)
    (actual,) = session.run(["y"], {"x": x})
    rounded = dequantized(*quantize_weight_blocks(weight, bits), bits, d)
    block = weight_block(d, bits)
    padded = np.pad(x, ((0, 0), (0, 0), (0, -d % block))).reshape(2, 7, -1, block)
    steps = np.repeat(np.abs(padded).max(axis=-1) / 127, block, axis=-1)[..., :d]
    assert np.all(np.abs(actual - (x @ rounded + bias)) <= steps / 2 @ np.abs(rounded) + 1e-4)
    alone = np.concatenate([session.run(["y"], {"x": row[None, None]})[0] for row in x.reshape(-1, d)])
    np.testing.assert_allclose(alone.reshape(actual.shape), actual, atol=1e-6 * np.abs(actual).max())
