"""Storage formats of quantized matmuls, and the rewrites that replace a MatMul and its bias Add by each.

- *static*: int8 weights with one scale a column; uint8 activations with a scale fixed at export. Operators:
  ``QuantizeLinear`` and ``MatMulIntegerToFloat``.
- *blocks*: 8-bit or 4-bit weights with one scale for each block of inputs; 8-bit activations with a scale for each row
  and block, computed at run time. Operator: ``MatMulNBits`` at accuracy level 4. Where ONNX Runtime has no such kernel
  for the processor, it unpacks the weights and multiplies in fp32: slower, equally accurate.

In both formats the result of a row does not depend on the other rows. Static and 8-bit blocks give identical bits at
any number of rows. In 4-bit blocks the last bits differ between one row and three (measured with AVX2: by 1e-6 of the
largest result).

Shapes: d = inputs of a matmul, columns = its outputs, blocks * block >= d.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

Array = np.ndarray[Any, Any]

MAX_STATIC_LEVEL = 64
"""Largest absolute int8 weight in the static format. Without VNNI, ONNX Runtime adds two products of a weight and an
activation in 16 bits: 2 * 255 * 64 fits, so that a bundle computes the same on every processor."""

SMALL_BLOCK, LARGEST_BLOCK = 32, 256
"""Inputs that share a scale. 4-bit weights need small blocks; 8-bit weights are as accurate in large ones, which are
faster."""


_SCALE_CANDIDATES = np.linspace(0.7, 1.1, 17)
"""Scales tried for a 4-bit block, relative to the scale that maps its largest weight to the last level."""


TIED = ".tied."
"""Part of the names of the nodes that take an output layer's weight from the embedding table."""

ZERO_LEVEL = 128
"""Level that means zero where levels are stored as uint8."""


class TiedRows(NamedTuple):
    """Rows of a quantized embedding table that are the columns of an output layer."""

    levels: ir.Value
    """Initializer uint8 [vocab, d], from ``quantize_rows``."""
    rows: Array | None
    """int64 [columns]; None: all rows."""


def quantize_rows(table: Array) -> tuple[Array, Array]:
    """Rounds an embedding table as ``quantize_columns`` rounds the output layer that is tied to it.

    Args:
        table: float [vocab, d].

    Returns:
        uint8 levels [vocab, d], ``ZERO_LEVEL`` more than those of the output layer, and float32 scales [vocab, 1].
    """
    levels, scales = quantize_columns(np.ascontiguousarray(table.T))
    return (levels.T.astype(np.int16) + ZERO_LEVEL).astype(np.uint8), scales[:, None]


def quantize_columns(weight: Array) -> tuple[Array, Array]:
    """Rounds a weight to the static format.

    Args:
        weight: float [d, columns].

    Returns:
        int8 levels [d, columns], at most ``MAX_STATIC_LEVEL`` in size, and float32 scales [columns].
    """
    scales = np.abs(weight).max(axis=0) / MAX_STATIC_LEVEL
    scales[scales == 0] = 1.0  # a column of zeros
    return np.rint(weight / scales).astype(np.int8), scales.astype(np.float32)


def weight_block(d: int, bits: int) -> int:
    """Number of inputs in a block, a power of two from 16 to 256; the last block is padded with zeros."""
    if bits == 4:
        return SMALL_BLOCK
    return max(16, min(LARGEST_BLOCK, d & -d))


def quantize_weight_blocks(weight: Array, bits: int) -> tuple[Array, Array]:
    """Rounds a weight to levels and scales in the layout of ``MatMulNBits``, where level 8 (or 128) means zero.

    Args:
        weight: float [d, columns].
        bits: 4 or 8. For 4 bits, the scale of a block is the candidate of ``_SCALE_CANDIDATES`` with the least squared
            error; signed levels go from -8 to 7, so a scale may be negative.

    Returns:
        uint8 levels [columns, blocks, block * bits / 8] (4 bits: two levels a byte, the first in the low bits), and
        float32 scales [columns, blocks].
    """
    block = weight_block(len(weight), bits)
    rows = np.pad(weight, ((0, -len(weight) % block), (0, 0))).T.astype(np.float32)
    grouped = rows.reshape(len(rows), -1, block)
    positions = np.abs(grouped).argmax(axis=-1, keepdims=True)
    largest = np.take_along_axis(grouped, positions, axis=-1)
    largest[largest == 0] = 1.0  # a block of zeros
    if bits == 8:
        scales = np.abs(largest) / 127
        return (np.rint(grouped / scales) + 128).astype(np.uint8), scales[..., 0]
    scales, least = np.zeros_like(largest), np.full_like(largest, np.inf)
    for factor in _SCALE_CANDIDATES:
        candidate = -largest / 8 * np.float32(factor)
        error = np.square(_signed_levels(grouped, candidate) * candidate - grouped).sum(axis=-1, keepdims=True)
        scales, least = np.where(error < least, candidate, scales), np.minimum(error, least)
    levels = (_signed_levels(grouped, scales) + 8).astype(np.uint8)
    return levels[..., ::2] | levels[..., 1::2] << 4, scales[..., 0]


def _signed_levels(weights: Array, scales: Array) -> Array:
    """Rounds weights to signed 4-bit levels, -8 to 7."""
    levels: Array = np.clip(np.rint(weights / scales), -8, 7)
    return levels


def replace_static(
    node: ir.Node,
    weight: ir.Value,
    name: str,
    array: Array,
    scale: np.float32,
    zero: np.uint8,
    kept_columns: ir.Value | None = None,
    tied: TiedRows | None = None,
) -> None:
    """Replaces a MatMul, and the Add of its bias, by operators of the static format.

    Args:
        node: The MatMul.
        weight: Initializer of the weight; the new initializers go to the graph that holds it.
        name: Prefix of the names of the new initializers.
        array: The weight [d, columns].
        scale: Scale of the activations.
        zero: Zero point of the activations.
        kept_columns: int64 [kept], the columns to compute where they are chosen at run time; None: all.
        tied: Where the weight stands in an embedding table, so that it is not stored again; None: nowhere.
    """
    levels, scales = quantize_columns(np.ascontiguousarray(array))
    name = f"{name}.q8"
    in_scale = initializer_near(weight, f"{name}.in_scale", np.array(scale))
    in_zero = initializer_near(weight, f"{name}.in_zero", np.array(zero))
    rounding = ir.node("QuantizeLinear", [_without_relu(node.inputs[0], zero), in_scale, in_zero])
    rounding.name = rounding.outputs[0].name = f"{node.name}.rounded"
    assert node.graph is not None
    node.graph.insert_before(node, rounding)
    weight_scales = initializer_near(weight, f"{name}.scales", scales)
    if kept_columns is not None:
        table = initializer_near(weight, f"{name}.columns", levels.T.copy())
        factor, weight_scales = _gather_columns(node, table, weight_scales, kept_columns)
    elif tied is not None:
        factor = _weight_in_table(rounding, name, tied)
    else:
        factor = initializer_near(weight, name, levels)
    inputs: list[ir.Value | None] = [rounding.outputs[0], factor, in_scale, weight_scales, in_zero, None]
    last, bias = _bias(node, levels.shape[1])
    replace_nodes(node, last, ir.node("MatMulIntegerToFloat", inputs + bias, domain="com.microsoft"))


def _gather_columns(
    node: ir.Node, table: ir.Value, scales: ir.Value, kept_columns: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """Adds nodes that select levels [d, kept] and scales [kept], where the graph selects rows of the float weight.

    Rows of ``table`` [columns, d] are gathered and then transposed: gathering columns would copy single bytes.
    """
    transpose = producer(node.inputs[1], "Transpose")
    assert transpose is not None and transpose.graph is not None
    rows = ir.node("Gather", [table, kept_columns], {"axis": 0})
    transposed = ir.node("Transpose", [rows.outputs[0]], {"perm": [1, 0]})
    kept_scales = ir.node("Gather", [scales, kept_columns], {"axis": 0})
    for new, suffix in ((rows, "rows"), (transposed, "turned"), (kept_scales, "scales")):
        new.name = new.outputs[0].name = f"{transpose.name}.q8.{suffix}"
    transpose.graph.insert_before(transpose, [rows, transposed, kept_scales])
    return transposed.outputs[0], kept_scales.outputs[0]


def _weight_in_table(before: ir.Node, name: str, tied: TiedRows) -> ir.Value:
    """Adds nodes that take levels [d, columns] from a table of levels plus ``ZERO_LEVEL``.

    All their inputs are constant: ONNX Runtime computes them when it opens the graph. They stand in the graph of the
    matmul, since a constant that was packed is freed only where both are in one graph.
    """
    zero = initializer_near(tied.levels, f"{name}.zero", np.array(ZERO_LEVEL, np.int16))
    nodes: list[ir.Node] = []

    def add(operator: str, *inputs: ir.Value, **attributes: int | list[int]) -> ir.Value:
        node = ir.node(operator, list(inputs), attributes)
        node.name = node.outputs[0].name = f"{name}{TIED}{len(nodes)}"
        nodes.append(node)
        return node.outputs[0]

    levels = tied.levels
    if tied.rows is not None:
        levels = add("Gather", levels, initializer_near(levels, f"{name}.rows", tied.rows), axis=0)
    signed = add("Sub", add("Cast", levels, to=int(ir.DataType.INT16)), zero)
    weight = add("Transpose", add("Cast", signed, to=int(ir.DataType.INT8)), perm=[1, 0])
    assert before.graph is not None
    before.graph.insert_before(before, nodes)
    return weight


def replace_blocks(node: ir.Node, weight: ir.Value, name: str, array: Array, bits: int) -> None:
    """Replaces a MatMul, and the Add of its bias, by a ``MatMulNBits``; the arguments are those of ``replace_static``.

    Args:
        bits: 4 or 8, of a weight.
    """
    d, columns = array.shape
    levels, scales = quantize_weight_blocks(array, bits)
    name = f"{name}.b{bits}"
    inputs = [
        node.inputs[0],
        initializer_near(weight, name, levels),
        initializer_near(weight, f"{name}.scales", scales),
    ]
    last, bias = _bias(node, columns)
    inputs += [None, None, *bias] if bias else []
    attributes = {"K": d, "N": columns, "bits": bits, "block_size": weight_block(d, bits), "accuracy_level": 4}
    replace_nodes(node, last, ir.node("MatMulNBits", inputs, attributes, domain="com.microsoft"))


def _without_relu(value: ir.Value | None, zero: np.uint8) -> ir.Value | None:
    """The input of a ReLU, if the zero point is 0: rounding to levels from zero up cuts off negative values too."""
    relu = None if value is None else value.producer()
    return relu.inputs[0] if relu is not None and relu.op_type == "Relu" and zero == 0 else value


def _bias(node: ir.Node, columns: int) -> tuple[ir.Node, list[ir.Value | None]]:
    """The Add of a constant bias [columns] that follows a MatMul, and that bias as a list; else the MatMul, no bias.

    The bias may be gathered by a shortlist: then the value is the gathered one.
    """
    consumers = list(node.outputs[0].consumers())
    if len(consumers) != 1 or consumers[0].op_type != "Add" or node.outputs[0].is_graph_output():
        return node, []
    value = next(v for v in consumers[0].inputs if v is not node.outputs[0])
    gather = producer(value, "Gather")
    whole = float_initializer(value if gather is None else gather.inputs[0])
    return (node, []) if whole is None or list(whole.shape or ()) != [columns] else (consumers[0], [value])


def producer(value: ir.Value | None, operator: str) -> ir.Node | None:
    """The node that computes a value, if it is of that operator; else None."""
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == operator else None


def float_initializer(value: ir.Value | None) -> ir.Value | None:
    """The value itself, if it is a float32 initializer; else None."""
    if value is None or not value.is_initializer() or value.const_value is None:
        return None
    return value if value.const_value.dtype == ir.DataType.FLOAT else None


def initializer_near(neighbour: ir.Value, name: str, array: Array) -> ir.Value:
    """The initializer of that name in the graph that holds ``neighbour``; it is added if the graph has none."""
    graph = neighbour.graph
    assert graph is not None
    if name not in graph.initializers:
        tensor = ir.Tensor(array, name=name)
        kind = ir.TensorType(tensor.dtype)
        graph.register_initializer(ir.Value(name=name, shape=tensor.shape, type=kind, const_value=tensor))
    return graph.initializers[name]


def replace_nodes(first: ir.Node, last: ir.Node, new: ir.Node) -> None:
    """Replaces one node, or two that follow each other, by ``new``, which takes over the name of the last output.

    Args:
        first: The node to replace.
        last: The node after it, replaced too; ``first`` itself where there is one only.
        new: The replacement.
    """
    graph, old, value = last.graph, last.outputs[0], new.outputs[0]
    assert graph is not None
    new.name, value.name, value.shape, value.type = first.name, old.name, old.shape, old.type
    graph.insert_before(last, new)
    ir.convenience.replace_all_uses_with(old, value, replace_graph_outputs=True)
    graph.remove([first] if first is last else [first, last], safe=True)
