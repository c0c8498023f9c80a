"""int8 against its definition, and that nothing is left in fp32."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from compressor.errors import ExportError
from compressor.exporters.quantization.matmul_formats import quantize_columns
from compressor.exporters.quantization.rewrite import (
    Ranges,
    activation_scale,
    block_size,
    check_quantized,
    float_products,
    products,
    quantize,
    quantize_blocks,
)
from compressor.models.base import Seq2SeqModel
from tests.exporters.conftest import VOCAB


def test_blocks_are_rounded_to_their_own_scale() -> None:
    weight = np.random.default_rng(0).normal(size=(5, 96)).astype(np.float32)
    weight[1] = 0
    levels, scales = quantize_blocks(weight)
    assert levels.shape == (5, 96) and scales.shape == (5, 3)
    restored = (levels.astype(np.float32) - 128) * np.repeat(scales, 32, axis=1)
    assert np.all(np.abs(restored - weight) <= np.repeat(scales, 32, axis=1) / 2 + 1e-7)
    assert np.all(levels[1] == 128)  # zero stays zero: the padding row, which decoding starts from
    assert levels.min() >= 1


def test_columns_are_rounded_to_their_own_scale() -> None:
    weight = np.random.default_rng(0).normal(size=(96, 5)).astype(np.float32)
    weight[:, 1] = 0
    levels, scales = quantize_columns(weight)
    assert levels.dtype == np.int8 and np.abs(levels).max(axis=0).tolist() == [64, 0, 64, 64, 64]
    assert np.all(np.abs(levels * scales - weight) <= scales / 2 + 1e-7)
    assert 2 * 255 * 64 < 2**15  # two products fit into 16 bits


@pytest.mark.parametrize(("low", "high"), [(-3.0, 5.0), (0.0, 7.5), (-2.0, 0.0), (0.0, 0.0)])
def test_activations_are_rounded_within_their_range(low: float, high: float) -> None:
    scale, zero = activation_scale(low, high)
    values = np.linspace(low, high, 101)
    levels = np.clip(np.rint(values / scale) + zero, 0, 255)
    assert np.all(np.abs((levels - zero) * scale - values) <= scale)
    assert (np.rint(0.0 / scale) + zero - zero) * scale == 0.0


def test_ranges_are_those_of_pytorch(model: Seq2SeqModel, ranges: Ranges, graphs: dict[str, ir.Model]) -> None:
    """What goes into the first product of the encoder is embeddings and positions, and that is easily computed."""
    chance = random.Random(9)
    sources = [[chance.randrange(1, 60) for _ in range(9)] + [0] for _ in range(60)]
    table, positions = model.embedding["shared"].detach() * 4.0, model.positions  # type: ignore[index,operator]
    padding = positions[10:12]  # sources are padded to a multiple of four, with an embedding of zero
    entering = [table[torch.tensor(ids)] + positions[:10] for ids in sources] + [padding]  # type: ignore[index,operator]
    expected = min(float(x.min()) for x in entering), max(float(x.max()) for x in entering)
    first = model.encoder[0].attention.qkv.weight.detach()  # type: ignore[index,union-attr]
    (found,) = [
        ranges[product.key]
        for product in products(graphs["encoder"])
        if product.weight.const_value.numpy().reshape(-1).sum() == pytest.approx(float(first.sum()), abs=1e-4)
    ]
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("d", "expected"), [(192, 64), (256, 64), (96, 32), (48, 16)])
def test_block_size(d: int, expected: int) -> None:
    assert block_size(d) == expected


def test_a_width_without_a_block_is_refused() -> None:
    with pytest.raises(ExportError, match=r"multiples of 16, and one is 24: export fp32 only"):
        block_size(24)


@pytest.mark.parametrize("graph", ["generate", "generate_beams", "encoder", "decoder_step"])
def test_no_product_is_left_in_fp32(folders: dict[str, Path], graph: str) -> None:
    for precision in ("int8", "int4", "mixed"):
        check_quantized(folders[precision] / f"{graph}.onnx")
    with pytest.raises(ExportError, match=f"{graph}.onnx: these products were left in fp32: .*MatMul"):
        check_quantized(folders["fp32"] / f"{graph}.onnx")


def test_every_product_and_embedding_is_quantized(graphs: dict[str, ir.Model], ranges: Ranges) -> None:
    for name in ("generate", "generate_beams"):
        graph = graphs[name].clone()
        before = [node.op_type for node in ir.traversal.RecursiveGraphIterator(graph.graph)]
        quantize(graph, VOCAB, ranges)
        kinds = [node.op_type for node in ir.traversal.RecursiveGraphIterator(graph.graph)]
        assert kinds.count("MatMulIntegerToFloat") == kinds.count("QuantizeLinear") == before.count("MatMul") > 0
        assert kinds.count("GatherBlockQuantized") == 2  # source and target
        assert kinds.count("Mul") == before.count("Mul") - 2  # by the square root of d: it is in the table's scales
        assert "Relu" in before and "Relu" not in kinds  # rounding to levels from zero does that
        assert not float_products(graph)
        assert not any(value.const_value.size > 1000 and value.dtype == ir.DataType.FLOAT and VOCAB in value.shape
                       for part in (graph.graph, *graph.graph.subgraphs())
                       for value in part.initializers.values())  # fmt: skip


@pytest.mark.parametrize(
    ("rectified", "low"), [(False, -3.0), (True, 0.0), (True, -3.0)], ids=["plain", "ReLU", "ReLU that must stay"]
)
def test_a_product_is_the_integers_product_to_the_last_bits(rectified: bool, low: float) -> None:
    """x W + b of one quantized product, against the same integers multiplied by numpy."""
    chance = np.random.default_rng(0)
    weight, bias = (chance.normal(size=shape).astype(np.float32) for shape in ((32, 12), (12,)))
    x = chance.uniform(-3, 5, size=(2, 7, 32)).astype(np.float32)
    entry = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["batch", "length", 32]))
    graph = ir.Graph([entry], [], nodes=[], opset_imports={"": 23}, name="product")
    factor, added = (
        ir.Value(name=name, shape=ir.Shape(array.shape), type=entry.type, const_value=ir.Tensor(array, name=name))
        for name, array in (("weight", weight), ("bias", bias))
    )
    for value in (factor, added):
        graph.register_initializer(value)
    relu = ir.node("Relu", [entry])
    product = ir.node("MatMul", [relu.outputs[0] if rectified else entry, factor])
    total = ir.node("Add", [product.outputs[0], added])
    product.name, total.name, product.outputs[0].name, total.outputs[0].name = "product", "total", "xw", "y"
    relu.name, relu.outputs[0].name = "relu", "rectified"
    total.outputs[0].type, total.outputs[0].shape = entry.type, ir.Shape(["batch", "length", 12])
    graph.extend([relu, product, total] if rectified else [product, total])
    graph.outputs.append(total.outputs[0])
    model = ir.Model(graph, ir_version=10)
    (only,) = products(model)
    quantize(model, VOCAB, {only.key: (low, 5.0)})
    assert ("Relu" in [node.op_type for node in graph]) == (rectified and low < 0)
    (found,) = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString()).run(["y"], {"x": x})
    step, scales = np.float32((5 - low) / 255), np.abs(weight).max(axis=0) / 64
    zero, given = round(-low / ((5 - low) / 255)), np.maximum(x, 0) if rectified else x
    integers = (np.clip(np.rint(given / step) + zero, 0, 255) - zero) @ np.rint(weight / scales)
    np.testing.assert_allclose(found, integers * step * scales + bias, atol=1e-4)
