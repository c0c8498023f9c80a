"""Products in a form of ``forms`` each (int8: all with static scales), and embedding tables in blocks of 8 bits.

The scales of activations are static: found at export, from what the fp32 graphs compute on calibration sources
(``calibration``). They cost nothing at run time, and a sentence's result does not depend on what else is in the batch,
as it does with ``DynamicQuantizeMatMul``, ONNX Runtime's usual form, which takes one scale for the whole batch.

Measured without VNNI, one thread, a 2+1-layer student of d 256, whole search on test sentences, ms a batch of 1, 8, 32:
fp32 2.86, 9.5, 35; block-wise weights with scales a row (``MatMulNBits``) 2.09, 12.5, 39; this form 1.67, 6.1, 18.

Shapes: d = a product's inputs, columns = its outputs, rows = those of a table, blocks * block = its width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from compressor.errors import ExportError
from compressor.exporters.quantization.matmul_formats import (
    beside,
    constant,
    producer,
    replace_blocks,
    replace_static,
    swap,
)

BLOCK_SIZES = (64, 32, 16)
"""Of embedding tables: the largest that divides the width is taken, for the smallest file."""

_PRODUCTS = {"MatMul", "Gemm", "FusedMatMul", "FusedGemm"}

Ranges = dict[bytes, tuple[float, float]]
"""``Product.key`` to the least and the greatest of its activations, zero included."""


class Product(NamedTuple):
    """A product with a constant weight: [d, columns], or [columns, d] where the graph turns it."""

    node: ir.Node
    weight: ir.Value
    turned: bool
    kept: ir.Value | None = None
    """int64 [kept]: the columns that are multiplied, chosen at run time (a shortlist), if not all."""

    @property
    def key(self) -> bytes:
        """Tells products apart in all graphs, each of which names its values in its own way."""
        return weight_key(self.array)

    @property
    def array(self) -> np.ndarray[Any, Any]:
        """The weight as [d, columns]."""
        assert self.weight.const_value is not None
        array = self.weight.const_value.numpy()
        return array.T if self.turned else array


def weight_key(weight: np.ndarray[Any, Any]) -> bytes:
    """SHA-256 of a weight [d, columns]."""
    return hashlib.sha256(np.ascontiguousarray(weight).tobytes()).digest()


def products(model: ir.Model) -> list[Product]:
    """All of a graph and its subgraphs."""
    nodes = [node for node in _nodes(model.graph) if node.op_type == "MatMul"]
    return [Product(node, *weight) for node in nodes if (weight := _product_weight(node)) is not None]


def block_size(d: int) -> int:
    """The block of a dimension. Raises ExportError where there is none."""
    for size in BLOCK_SIZES:
        if d % size == 0:
            return size
    raise ExportError(
        f"quantized precisions need widths that are multiples of {BLOCK_SIZES[-1]}, and one is {d}: export fp32 only"
    )


def quantize_blocks(weight: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """[rows, d] float -> uint8 [rows, d] with zero at 128, and float32 scales [rows, blocks]."""
    rows, d = weight.shape
    block = block_size(d)
    grouped = weight.reshape(rows, d // block, block).astype(np.float32)
    scales = np.abs(grouped).max(axis=-1) / 127
    scales[scales == 0] = 1.0  # a block of zeros
    levels = np.rint(grouped / scales[..., None]) + 128
    return levels.astype(np.uint8).reshape(rows, d), scales.astype(np.float32)


def activation_scale(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """Scale and zero point that map [low, high] to 0 ... 255; zero is met exactly."""
    scale = np.float32((high - low) / 255 or 1.0)
    return scale, np.uint8(np.clip(np.rint(-low / scale), 0, 255))


def quantize(
    model: ir.Model,
    vocab_size: int,
    ranges: Ranges,
    float_weights: Collection[bytes] = (),
    bits: Mapping[bytes, int] = MappingProxyType({}),
) -> None:
    """Rewrites a graph in place, its subgraphs included.

    Args:
        model: A graph from ``build_graphs``.
        vocab_size: Tables of that many rows are embeddings; other tables (positions) stay as they are.
        ranges: Of the activations, from ``calibrate``.
        float_weights: Keys of the products that stay in fp32.
        bits: Keys of the products whose weights are in blocks of so many bits; all others have static scales, and so
            has a product whose columns are chosen at run time, for blocks are packed ahead of it.

    Raises:
        ExportError: a table's width is not a multiple of the smallest block.
    """
    model.graph.opset_imports["com.microsoft"] = 1
    for product in products(model):
        if (key := product.key) in float_weights:
            continue
        name = f"{product.weight.name}{'.T' if product.turned else ''}"
        factors = (product.node, product.weight, name, product.array)
        if key in bits and product.kept is None:
            replace_blocks(*factors, bits[key])
        else:
            replace_static(*factors, *activation_scale(*ranges[key]), product.kept)
    for node in list(_nodes(model.graph)):
        if node.op_type == "Gather" and (table := _table(node, vocab_size)) is not None:
            _replace_gather(node, table)
    _drop_unused(model.graph)


def _nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    return iter(ir.traversal.RecursiveGraphIterator(graph))


def _product_weight(node: ir.Node) -> tuple[ir.Value, bool, ir.Value | None] | None:
    """The other fields of the Product that a MatMul is; None if it is none."""
    factor, kept = node.inputs[1], None
    turn = producer(factor, "Transpose")
    if turn is not None:
        factor = turn.inputs[0]
        if (rows := producer(factor, "Gather")) is not None:
            factor, kept = rows.inputs
    weight = constant(factor)
    return None if weight is None or len(weight.shape or ()) != 2 else (weight, turn is not None, kept)


def _table(node: ir.Node, vocab_size: int) -> ir.Value | None:
    table = constant(node.inputs[0])
    if table is None or len(table.shape or ()) != 2 or node.attributes.get_int("axis", 0) != 0:
        return None
    return table if table.shape is not None and table.shape[0] == vocab_size else None


def _replace_gather(node: ir.Node, table: ir.Value) -> None:
    levels, scales = quantize_blocks(table.const_value.numpy())  # type: ignore[union-attr]
    last, factor = _factor(node)
    name, scales = f"{table.name}.rows.q8{'' if factor is None else f'x{factor:g}'}", scales * np.float32(factor or 1.0)
    inputs = [beside(table, name, levels), node.inputs[1], beside(table, f"{name}.scales", scales)]
    attributes = {"bits": 8, "block_size": block_size(levels.shape[1]), "gather_axis": 0, "quantize_axis": 1}
    swap(node, last, ir.node("GatherBlockQuantized", inputs, attributes, domain="com.microsoft"))


def _factor(node: ir.Node) -> tuple[ir.Node, float | None]:
    """The only consumer of a table's rows, if it multiplies them by a constant (the square root of d), and that."""
    consumers = list(node.outputs[0].consumers())
    if len(consumers) == 1 and consumers[0].op_type == "Mul" and not node.outputs[0].is_graph_output():
        value = next((constant(v) for v in consumers[0].inputs if v is not node.outputs[0]), None)
        if value is not None and value.const_value is not None and value.const_value.size == 1:
            return consumers[0], float(value.const_value.numpy().item())
    return node, None


def _drop_unused(main: ir.Graph) -> None:
    """Transposes and rows of tables, ReLUs and float weights that nothing reads any more."""
    for node in reversed(list(_nodes(main))):
        used = any(value.uses() or value.is_graph_output() for value in node.outputs)
        if node.op_type in ("Transpose", "Gather", "Relu") and not used and node.graph is not None:
            node.graph.remove(node, safe=True)
    for graph in (main, *main.subgraphs()):
        for name, value in list(graph.initializers.items()):
            if not value.uses() and not value.is_graph_output():
                graph.initializers.pop(name)


def check_quantized(path: Path, float_weights: Collection[bytes] = ()) -> None:
    """Looks for float products with a constant weight, in the graph as it is stored and as ONNX Runtime optimizes it.

    Args:
        path: The graph's file.
        float_weights: Keys of the weights that are meant to be in fp32.

    Raises:
        ExportError: names the products that were left in fp32.
    """
    import onnxruntime

    stored = ir.load(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    beside = path.with_suffix(".optimized")  # it refers to the same file of weights
    options.optimized_model_filepath = str(beside)
    try:
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        optimized = float_products(ir.load(beside), float_weights)
    finally:
        beside.unlink(missing_ok=True)
    left = float_products(stored, float_weights) or optimized
    if left:
        raise ExportError(f"{path.name}: these products were left in fp32: {', '.join(left)}")


def float_products(model: ir.Model, float_weights: Collection[bytes] = ()) -> list[str]:
    """Names of the products, subgraphs included, one factor of which is a constant matrix that is not meant to be."""
    return [
        str(node.name)
        for node in _nodes(model.graph)
        if node.op_type in _PRODUCTS and any(_is_unmeant(value, float_weights) for value in node.inputs)
    ]


def _is_unmeant(value: ir.Value | None, float_weights: Collection[bytes]) -> bool:
    if value is None or value.const_value is None or len(value.shape or ()) < 2:
        return False
    if value.const_value.dtype != ir.DataType.FLOAT:  # fp16
        return False
    if not float_weights:
        return True
    array = value.const_value.numpy()
    return not {weight_key(array), weight_key(array.T)}.intersection(float_weights)
