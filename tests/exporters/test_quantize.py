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
from compressor.exporters.quantize import (
    Ranges,
    activation_scale,
    block_size,
    check_quantized,
    float_products,
    products,
    quantize,
    quantize_blocks,
    quantize_columns,
)
from compressor.models.base import Seq2SeqModel
from tests.exporters.conftest import EVERY_RULE, VOCAB


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
    check_quantized(folders["int8"] / f"{graph}.onnx")
    with pytest.raises(ExportError, match=f"{graph}.onnx: these products were left in fp32: .*MatMul"):
        check_quantized(folders["fp32"] / f"{graph}.onnx")


def test_every_product_and_embedding_is_quantized(graphs: dict[str, ir.Model], ranges: Ranges) -> None:
    for name in ("generate", "generate_beams"):
        graph = graphs[name].clone()
        every = [node for node in ir.traversal.RecursiveGraphIterator(graph.graph) if node.op_type == "MatMul"]
        quantize(graph, VOCAB, ranges)
        kinds = [node.op_type for node in ir.traversal.RecursiveGraphIterator(graph.graph)]
        assert kinds.count("MatMulIntegerToFloat") == kinds.count("QuantizeLinear") == len(every) > 0
        assert kinds.count("GatherBlockQuantized") == 2  # source and target
        assert not float_products(graph)
        assert not any(value.const_value.size > 1000 and value.dtype == ir.DataType.FLOAT and VOCAB in value.shape
                       for part in (graph.graph, *graph.graph.subgraphs())
                       for value in part.initializers.values())  # fmt: skip


def test_the_product_is_that_of_the_rounded_weight(graphs: dict[str, ir.Model], folders: dict[str, Path]) -> None:
    """Logits of the int8 step, from the same state, are close to fp32's: an 8-bit weight and activation apart."""
    steps = {name: onnxruntime.InferenceSession(folders[name] / "decoder_step.onnx") for name in folders}
    chance = np.random.default_rng(0)
    feeds = {"sequences": np.array([[60, 5, 4], [60, 7, 9]]), "open": np.ones(2, bool), "position": np.array([2])}
    feeds |= {"mask": np.ones((2, 1, 1, 8), bool), "prefix_ids": np.zeros((2, 0), np.int64), "step": np.array(2)}
    feeds |= {name: np.array(value) for name, value in (("max_new_tokens", 9), ("min_new_tokens", 0))}
    feeds["no_repeat_ngram_size"] = np.array(0)
    past, memory = ("self_key_0", "self_value_0"), ("cross_key_0", "cross_value_0")
    for name, shape in (*((name, (2, 2, 2, 8)) for name in past), *((name, (2, 8, 16)) for name in memory)):
        feeds[name] = chance.normal(size=shape).astype(np.float32)
    fp32, int8 = (
        np.delete(steps[name].run(["logits"], feeds)[0], EVERY_RULE.suppressed_ids, 1) for name in ("fp32", "int8")
    )
    assert 0 < np.abs(fp32 - int8).max() < 0.2 * fp32.std()
    assert np.corrcoef(fp32.flatten(), int8.flatten())[0, 1] > 0.999
