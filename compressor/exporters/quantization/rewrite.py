"""Quantizes a graph in place: its matmuls to the formats of ``matmul_formats``, its embedding tables to 8-bit rows.

A table is rounded as the static format rounds columns. So where the output layer has rows of the table as its columns,
it needs no weight of its own: the graph takes them from the table, and ONNX Runtime does that once, when it opens it.

The scales of activations are static: computed once, at export, from what the fp32 graphs compute on calibration sources
(``calibration``). So they cost nothing at run time, and the result of a sentence does not depend on the rest of the
batch, as it does with ``DynamicQuantizeMatMul``, ONNX Runtime's usual operator, which uses one scale for a whole batch.

Measured without VNNI, one thread, a 2+1-layer student of d 256, whole search on test sentences, ms a batch of 1, 8, 32:
fp32 2.86, 9.5, 35; block-wise weights with scales a row (``MatMulNBits``) 2.09, 12.5, 39; static scales 1.67, 6.1, 18.

Shapes: d = inputs of a matmul, columns = its outputs, rows = those of an embedding table.
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
    TIED,
    TiedRows,
    float_initializer,
    initializer_near,
    producer,
    quantize_rows,
    replace_blocks,
    replace_nodes,
    replace_static,
)
from compressor.runtime.session import check_onnxruntime, session_options

_MATMUL_OPERATORS = {"MatMul", "Gemm", "FusedMatMul", "FusedGemm"}

Ranges = dict[bytes, tuple[float, float]]
"""Key of a matmul (``WeightMatmul.key``) to the minimum and maximum of its activations; the range includes zero."""


class WeightMatmul(NamedTuple):
    """A MatMul one factor of which is a constant weight."""

    node: ir.Node
    weight: ir.Value
    """Initializer [d, columns], or [columns, d] where the graph transposes it."""
    transposed: bool
    kept_columns: ir.Value | None = None
    """int64 [kept]: the columns that are computed, chosen at run time by a shortlist; None: all."""

    @property
    def key(self) -> bytes:
        """Hash of the weight, which identifies a matmul in every graph; names of values differ between graphs."""
        return weight_key(self.array)

    @property
    def array(self) -> np.ndarray[Any, Any]:
        """The weight as [d, columns]."""
        assert self.weight.const_value is not None
        array = self.weight.const_value.numpy()
        return array.T if self.transposed else array


def weight_key(weight: np.ndarray[Any, Any]) -> bytes:
    """SHA-256 of a weight [d, columns]."""
    return hashlib.sha256(np.ascontiguousarray(weight).tobytes()).digest()


def weight_matmuls(model: ir.Model) -> list[WeightMatmul]:
    """Every matmul with a constant weight in a graph and its subgraphs."""
    nodes = [node for node in _nodes(model.graph) if node.op_type == "MatMul"]
    return [matmul for node in nodes if (matmul := _weight_matmul(node)) is not None]


def activation_scale(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """Scale and zero point that map [low, high] to the levels 0 to 255; zero is represented exactly."""
    scale = np.float32((high - low) / 255 or 1.0)
    return scale, np.uint8(np.clip(np.rint(-low / scale), 0, 255))


def quantize(
    model: ir.Model,
    vocab_size: int,
    ranges: Ranges,
    fp32_weights: Collection[bytes] = (),
    bits: Mapping[bytes, int] = MappingProxyType({}),
) -> None:
    """Quantizes a graph and its subgraphs in place.

    Args:
        model: A graph from ``build_graphs``.
        vocab_size: Tables with that many rows are embeddings; other tables (positions) are left unchanged.
        ranges: Ranges of the activations, from ``calibrate``.
        fp32_weights: Keys of the matmuls that stay in fp32.
        bits: Key of each matmul in the block format to the bits of its weights. All other matmuls get the static
            format; so does one whose columns are chosen at run time, since blocks cannot be gathered by column.

    """
    model.graph.opset_imports["com.microsoft"] = 1
    gathers = [
        (node, table)
        for node in _nodes(model.graph)
        if node.op_type == "Gather" and (table := _embedding_table(node, vocab_size)) is not None
    ]
    tables = list(dict.fromkeys(table for _, table in gathers))
    for matmul in weight_matmuls(model):
        if (key := matmul.key) in fp32_weights:
            continue
        name = f"{matmul.weight.name}{'.T' if matmul.transposed else ''}"
        if key in bits and matmul.kept_columns is None:
            replace_blocks(matmul.node, matmul.weight, name, matmul.array, bits[key])
        else:
            scale, zero = activation_scale(*ranges[key])
            tied = None if matmul.kept_columns is not None else _tied_rows(matmul, tables)
            replace_static(matmul.node, matmul.weight, name, matmul.array, scale, zero, matmul.kept_columns, tied)
    for node, table in gathers:
        _replace_gather(node, table)
    _drop_unused(model.graph)


def _nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    """Nodes of a graph and its subgraphs."""
    return iter(ir.traversal.RecursiveGraphIterator(graph))


def _weight_matmul(node: ir.Node) -> WeightMatmul | None:
    """The WeightMatmul of a MatMul node; None if no factor is a constant weight."""
    factor, kept_columns = node.inputs[1], None
    transpose = producer(factor, "Transpose")
    if transpose is not None:
        factor = transpose.inputs[0]
        if (gather := producer(factor, "Gather")) is not None:
            factor, kept_columns = gather.inputs
    weight = float_initializer(factor)
    if weight is None or len(weight.shape or ()) != 2:
        return None
    return WeightMatmul(node, weight, transpose is not None, kept_columns)


def _embedding_table(node: ir.Node, vocab_size: int) -> ir.Value | None:
    """The table that a Gather reads, if it is an embedding table: [vocab_size, d], gathered by row; else None."""
    table = float_initializer(node.inputs[0])
    if table is None or len(table.shape or ()) != 2 or node.attributes.get_int("axis", 0) != 0:
        return None
    return table if table.shape is not None and table.shape[0] == vocab_size else None


def _tied_rows(matmul: WeightMatmul, tables: Collection[ir.Value]) -> TiedRows | None:
    """The place of a matmul's columns among the rows of an embedding table in the weight's graph; None if in none."""
    for table in tables:
        if table is matmul.weight:
            return TiedRows(_quantized_rows(table)[0], None)
        array = table.const_value.numpy()  # type: ignore[union-attr]
        if table.graph is not matmul.weight.graph or array.shape[1] != len(matmul.array):
            continue
        columns = np.ascontiguousarray(matmul.array.T)
        places = {hash(row.tobytes()): place for place, row in enumerate(array)}
        rows = np.array([places.get(hash(column.tobytes()), 0) for column in columns])
        if np.array_equal(array[rows], columns):
            return TiedRows(_quantized_rows(table)[0], rows)
    return None


def _quantized_rows(table: ir.Value) -> tuple[ir.Value, np.ndarray[Any, Any]]:
    """The initializer of a table's levels, beside the table, and its scales; see ``quantize_rows``."""
    levels, scales = quantize_rows(table.const_value.numpy())  # type: ignore[union-attr]
    return initializer_near(table, f"{table.name}.q8", levels), scales


def _replace_gather(node: ir.Node, table: ir.Value) -> None:
    """Replaces a Gather from an embedding table, and a constant factor after it, by ``GatherBlockQuantized``."""
    levels, scales = _quantized_rows(table)
    last, factor = _constant_factor(node)
    name = f"{levels.name}.scales{'' if factor is None else f'x{factor:g}'}"
    inputs = [levels, node.inputs[1], initializer_near(table, name, scales * np.float32(factor or 1.0))]
    width = int(levels.shape[1])  # type: ignore[index, arg-type]
    block = max(16, 1 << (width - 1).bit_length())  # one block a row; the operator takes powers of two
    attributes = {"bits": 8, "block_size": block, "gather_axis": 0, "quantize_axis": 1}
    replace_nodes(node, last, ir.node("GatherBlockQuantized", inputs, attributes, domain="com.microsoft"))


def _constant_factor(node: ir.Node) -> tuple[ir.Node, float | None]:
    """The Mul by a constant (the square root of d) that alone consumes a node's output, and the constant.

    Returns the node itself and None if there is no such Mul.
    """
    consumers = list(node.outputs[0].consumers())
    if len(consumers) == 1 and consumers[0].op_type == "Mul" and not node.outputs[0].is_graph_output():
        value = next((float_initializer(v) for v in consumers[0].inputs if v is not node.outputs[0]), None)
        if value is not None and value.const_value is not None and value.const_value.size == 1:
            return consumers[0], float(value.const_value.numpy().item())
    return node, None


def _drop_unused(main: ir.Graph) -> None:
    """Removes Transpose, Gather and Relu nodes and float weights that the rewrite left without a reader."""
    for node in reversed(list(_nodes(main))):
        used = any(value.uses() or value.is_graph_output() for value in node.outputs)
        if node.op_type in ("Transpose", "Gather", "Relu") and not used and node.graph is not None:
            node.graph.remove(node, safe=True)
    for graph in (main, *main.subgraphs()):
        for name, value in list(graph.initializers.items()):
            if not value.uses() and not value.is_graph_output():
                graph.initializers.pop(name)


def check_quantized(path: Path, fp32_weights: Collection[bytes] = ()) -> None:
    """Checks that no other matmul is in fp32, in the stored graph and in the graph that ONNX Runtime makes of it.

    In the latter tied weights must be constants, too.

    Args:
        path: The graph's file.
        fp32_weights: Keys of the matmuls that are allowed to be in fp32.

    Raises:
        ExportError: names the matmuls that are in fp32, or the nodes of weights that are no constants.
    """
    onnxruntime = check_onnxruntime()
    stored = ir.load(path)
    options = session_options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    optimized_path = path.with_suffix(".optimized")  # in the same folder, for it refers to the same weights file
    options.optimized_model_filepath = str(optimized_path)
    try:
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        optimized = ir.load(optimized_path)
        left = fp32_matmuls(stored, fp32_weights) or fp32_matmuls(optimized, fp32_weights)
        computed = [str(node.name) for node in _nodes(optimized.graph) if TIED in str(node.name)]
    finally:
        optimized_path.unlink(missing_ok=True)
    if left:
        raise ExportError(f"{path.name}: these matmuls were left in fp32: {', '.join(left)}")
    if computed:
        raise ExportError(f"{path.name}: ONNX Runtime would compute these weights at every step: {', '.join(computed)}")


def fp32_matmuls(model: ir.Model, allowed: Collection[bytes] = ()) -> list[str]:
    """Names of the matmuls in a graph and its subgraphs that have a constant fp32 matrix as a factor.

    Args:
        model: The graph.
        allowed: Keys of matmuls that are left out of the list.
    """
    return [
        str(node.name)
        for node in _nodes(model.graph)
        if node.op_type in _MATMUL_OPERATORS and any(_is_fp32_weight(value, allowed) for value in node.inputs)
    ]


def _is_fp32_weight(value: ir.Value | None, allowed: Collection[bytes]) -> bool:
    """Whether a value is a constant fp32 matrix whose key is not among ``allowed``."""
    if value is None or value.const_value is None or len(value.shape or ()) < 2:
        return False
    if value.const_value.dtype != ir.DataType.FLOAT:  # fp16
        return False
    if not allowed:
        return True
    array = value.const_value.numpy()
    return not {weight_key(array), weight_key(array.T)}.intersection(allowed)
