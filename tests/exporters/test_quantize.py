"""int8 against its definition, and that nothing is left in fp32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from compressor.errors import ExportError
from compressor.exporters.quantize import (
    block_size,
    check_quantized,
    float_products,
    quantize,
    quantize_blocks,
    restored_products,
)
from compressor.onnxfile import graph_needs
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


@pytest.mark.parametrize(("d", "expected"), [(192, 64), (256, 64), (96, 32), (48, 16)])
def test_block_size(d: int, expected: int) -> None:
    assert block_size(d) == expected


def test_a_width_without_a_block_is_refused() -> None:
    with pytest.raises(ExportError, match=r"multiples of 16, and one is 24: export fp32 only"):
        block_size(24)


@pytest.mark.parametrize("graph", ["generate", "encoder", "decoder_step"])
def test_no_product_is_left_in_fp32(folders: dict[str, Path], graph: str) -> None:
    check_quantized(folders["int8"] / f"{graph}.onnx")
    with pytest.raises(ExportError, match=f"{graph}.onnx: these products were left in fp32: .*MatMul"):
        check_quantized(folders["fp32"] / f"{graph}.onnx")


def test_every_product_and_embedding_is_quantized(graphs: dict[str, ir.Model]) -> None:
    graph = graphs["generate"].clone()
    encoder = [node for node in graph.graph if node.op_type == "MatMul"]
    every = [node for node in ir.traversal.RecursiveGraphIterator(graph.graph) if node.op_type == "MatMul"]
    quantize(graph, VOCAB)
    kinds = [node.op_type for node in ir.traversal.RecursiveGraphIterator(graph.graph)]
    assert kinds.count("MatMulNBits") == len(every) - len(encoder) > 0
    assert kinds.count("MatMul") == len(encoder) == len(restored_products(graph)) > 0
    assert kinds.count("GatherBlockQuantized") == 2  # source and target
    assert not float_products(graph)
    assert not any(v.const_value.size > 1000 and v.dtype == ir.DataType.FLOAT and v.shape[0] == VOCAB
                   for v in graph.graph.initializers.values())  # fmt: skip


def test_embedding_and_output_layer_share_their_bytes(folders: dict[str, Path]) -> None:
    needs = graph_needs((folders["int8"] / "decoder_step.onnx").read_bytes())
    table = [external for external in needs.externals if external.length == VOCAB * 16]
    assert len({external.offset for external in table}) == 1


def test_the_product_is_that_of_the_rounded_weight(graphs: dict[str, ir.Model], folders: dict[str, Path]) -> None:
    """Logits of the int8 step, from the same state, are close to fp32's: an 8-bit weight and activation apart."""
    steps = {name: onnxruntime.InferenceSession(folders[name] / "decoder_step.onnx") for name in folders}
    chance = np.random.default_rng(0)
    feeds = {"token": np.array([4, 9]), "step": np.array(2), "max_new_tokens": np.array(9)}
    feeds |= {"finished": np.zeros(2, bool), "mask": np.ones((2, 1, 1, 8), bool), "position": np.array([2])}
    past, memory = ("self_key_0", "self_value_0"), ("cross_key_0", "cross_value_0")
    for name, shape in (*((name, (2, 2, 2, 8)) for name in past), *((name, (2, 8, 16)) for name in memory)):
        feeds[name] = chance.normal(size=shape).astype(np.float32)
    fp32, int8 = (
        np.delete(steps[name].run(["logits"], feeds)[0], EVERY_RULE.suppressed_ids, 1) for name in ("fp32", "int8")
    )
    assert 0 < np.abs(fp32 - int8).max() < 0.1 * fp32.std()
