"""Static int8 matmuls and embedding blocks against their definition; no matmul is left in fp32."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from compressor.errors import ExportError
from compressor.exporters.quantization.matmul_formats import quantize_columns, quantize_rows
from compressor.exporters.quantization.rewrite import (
    Ranges,
    activation_scale,
    check_quantized,
    fp32_matmuls,
    quantize,
    weight_matmuls,
)
from compressor.models.base import Seq2SeqModel
from tests.exporters.conftest import VOCAB

FLOAT = ir.TensorType(ir.DataType.FLOAT)


def test_embedding_rows_have_the_levels_of_the_output_layer_that_is_tied_to_them() -> None:
    table = np.random.default_rng(0).normal(size=(5, 90)).astype(np.float32)
    table[1] = 0
    levels, scales = quantize_rows(table)
    assert levels.shape == (5, 90) and levels.dtype == np.uint8 and scales.shape == (5, 1)
    assert np.all(np.abs((levels.astype(np.float32) - 128) * scales - table) <= scales / 2 + 1e-7)
    assert np.all(levels[1] == 128)  # zero stays zero: the padding row, which decoding starts from
    output_levels, output_scales = quantize_columns(np.ascontiguousarray(table.T))
    assert np.array_equal(levels.astype(int) - 128, output_levels.T) and np.array_equal(scales[:, 0], output_scales)


def test_static_columns_round_within_half_a_level() -> None:
    weight = np.random.default_rng(0).normal(size=(96, 5)).astype(np.float32)
    weight[:, 1] = 0
    levels, scales = quantize_columns(weight)
    assert levels.dtype == np.int8 and np.abs(levels).max(axis=0).tolist() == [64, 0, 64, 64, 64]
    assert np.all(np.abs(levels * scales - weight) <= scales / 2 + 1e-7)
    assert 2 * 255 * 64 < 2**15  # two products fit into 16 bits


@pytest.mark.parametrize(("low", "high"), [(-3.0, 5.0), (0.0, 7.5), (-2.0, 0.0), (0.0, 0.0)])
def test_activation_scale_covers_the_range_and_represents_zero_exactly(low: float, high: float) -> None:
    scale, zero = activation_scale(low, high)
    values = np.linspace(low, high, 101)
    levels = np.clip(np.rint(values / scale) + zero, 0, 255)
    assert np.all(np.abs((levels - zero) * scale - values) <= scale)
    assert (np.rint(0.0 / scale) + zero - zero) * scale == 0.0


def test_calibrated_range_of_the_first_matmul_matches_pytorch(
    model: Seq2SeqModel, ranges: Ranges, graphs: dict[str, ir.Model]
) -> None:
    """The activations of the encoder's first matmul are embeddings plus positions, which PyTorch computes directly."""
    rng = random.Random(9)
    sources = [[rng.randrange(1, 60) for _ in range(9)] + [0] for _ in range(60)]
    table, positions = model.embedding["shared"].detach() * 4.0, model.positions  # type: ignore[index,operator]
    padding = positions[10:12]  # sources are pbias_value to a multiple of four, with an embedding of zero
    activations = [table[torch.tensor(ids)] + positions[:10] for ids in sources] + [padding]  # type: ignore[index,operator]
    expected = min(float(x.min()) for x in activations), max(float(x.max()) for x in activations)
    first = model.encoder[0].attention.qkv.weight.detach()  # type: ignore[index,union-attr]
    (actual,) = [
        ranges[matmul.key]
        for matmul in weight_matmuls(graphs["encoder"])
        if matmul.weight.const_value.numpy().reshape(-1).sum() == pytest.approx(float(first.sum()), abs=1e-4)
    ]
    assert actual == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("order", [None, [3, 0, 4, 4]], ids=["all rows", "some rows"])
@pytest.mark.parametrize("d", [24, 32])
def test_tied_output_layer_is_stored_once(d: int, order: list[int] | None) -> None:
    """An embedding and an output layer that has its rows, some or all, as columns."""
    table = np.random.default_rng(0).normal(size=(5, d)).astype(np.float32)
    columns = np.ascontiguousarray(table.T if order is None else table[order].T)
    ids = ir.Value(name="ids", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(["length"]))
    graph = ir.Graph([ids], [], nodes=[], opset_imports={"": 23}, name="tied")
    values = [
        ir.Value(name=name, shape=ir.Shape(array.shape), type=FLOAT, const_value=ir.Tensor(array, name=name))
        for name, array in (("table", table), ("weight", columns))
    ]
    for value in values:
        graph.register_initializer(value)
    gather = ir.node("Gather", [values[0], ids])
    matmul = ir.node("MatMul", [gather.outputs[0], values[1]])
    gather.name, matmul.name, gather.outputs[0].name, matmul.outputs[0].name = "gather", "matmul", "x", "y"
    matmul.outputs[0].type, matmul.outputs[0].shape = FLOAT, ir.Shape(["length", columns.shape[1]])
    graph.extend([gather, matmul])
    graph.outputs.append(matmul.outputs[0])
    model = ir.Model(graph, ir_version=10)
    (only,) = weight_matmuls(model)
    quantize(model, len(table), {only.key: (-4.0, 4.0)})
    stored = [value for value in graph.initializers.values() if value.const_value.size >= table.size]
    assert [(value.dtype, value.shape) for value in stored] == [(ir.DataType.UINT8, table.shape)]
    (actual,) = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString()).run(["y"], {"ids": [2, 4]})
    scales = np.abs(table).max(axis=1, keepdims=True) / 64
    rounded, step = np.rint(table / scales) * scales, 8 / 255
    expected = np.rint(rounded[[2, 4]] / step) * step @ rounded[order or range(5)].T
    np.testing.assert_allclose(actual, expected, atol=1e-4)


@pytest.mark.parametrize("graph", ["generate", "generate_beams", "encoder", "decoder_step"])
def test_check_quantized_accepts_quantized_graphs_and_refuses_fp32(folders: dict[str, Path], graph: str) -> None:
    for precision in ("int8", "int4", "mixed"):
        check_quantized(folders[precision] / f"{graph}.onnx")
    with pytest.raises(ExportError, match=f"{graph}.onnx: these matmuls were left in fp32: .*MatMul"):
        check_quantized(folders["fp32"] / f"{graph}.onnx")


def test_every_matmul_and_embedding_is_quantized(graphs: dict[str, ir.Model], ranges: Ranges) -> None:
    for name in ("generate", "generate_beams"):
        graph = graphs[name].clone()
        before = [node.op_type for node in ir.traversal.RecursiveGraphIterator(graph.graph)]
        quantize(graph, VOCAB, ranges)
        kinds = [node.op_type for node in ir.traversal.RecursiveGraphIterator(graph.graph)]
        assert kinds.count("MatMulIntegerToFloat") == kinds.count("QuantizeLinear") == before.count("MatMul") > 0
        assert kinds.count("GatherBlockQuantized") == 2  # source and target
        assert kinds.count("Mul") == before.count("Mul") - 2  # by the square root of d: it is in the table's scales
        assert "Relu" in before and "Relu" not in kinds  # rounding to levels from zero does that
        assert not fp32_matmuls(graph)
        assert not any(value.const_value.size > 1000 and value.dtype == ir.DataType.FLOAT and VOCAB in value.shape
                       for part in (graph.graph, *graph.graph.subgraphs())
                       for value in part.initializers.values())  # fmt: skip


@pytest.mark.parametrize(
    ("rectified", "low"), [(False, -3.0), (True, 0.0), (True, -3.0)], ids=["plain", "ReLU", "ReLU that must stay"]
)
def test_static_matmul_matches_integer_arithmetic_in_numpy(rectified: bool, low: float) -> None:
    """x W + b of one quantized matmul, against the same integers multiplied by numpy."""
    rng = np.random.default_rng(0)
    weight, bias = (rng.normal(size=shape).astype(np.float32) for shape in ((32, 12), (12,)))
    x = rng.uniform(-3, 5, size=(2, 7, 32)).astype(np.float32)
    x_value = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["batch", "length", 32]))
    graph = ir.Graph([x_value], [], nodes=[], opset_imports={"": 23}, name="matmul")
    weight_value, bias_value = (
        ir.Value(name=name, shape=ir.Shape(array.shape), type=x_value.type, const_value=ir.Tensor(array, name=name))
        for name, array in (("weight", weight), ("bias", bias))
    )
    for value in (weight_value, bias_value):
        graph.register_initializer(value)
    relu = ir.node("Relu", [x_value])
    matmul = ir.node("MatMul", [relu.outputs[0] if rectified else x_value, weight_value])
    total = ir.node("Add", [matmul.outputs[0], bias_value])
    matmul.name, total.name, matmul.outputs[0].name, total.outputs[0].name = "matmul", "total", "xw", "y"
    relu.name, relu.outputs[0].name = "relu", "rectified"
    total.outputs[0].type, total.outputs[0].shape = x_value.type, ir.Shape(["batch", "length", 12])
    graph.extend([relu, matmul, total] if rectified else [matmul, total])
    graph.outputs.append(total.outputs[0])
    model = ir.Model(graph, ir_version=10)
    (only,) = weight_matmuls(model)
    quantize(model, VOCAB, {only.key: (low, 5.0)})
    assert ("Relu" in [node.op_type for node in graph]) == (rectified and low < 0)
    (actual,) = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString()).run(["y"], {"x": x})
    step, scales = np.float32((5 - low) / 255), np.abs(weight).max(axis=0) / 64
    zero, rectified_x = round(-low / ((5 - low) / 255)), np.maximum(x, 0) if rectified else x
    integers = (np.clip(np.rint(rectified_x / step) + zero, 0, 255) - zero) @ np.rint(weight / scales)
    np.testing.assert_allclose(actual, integers * step * scales + bias, atol=1e-4)
