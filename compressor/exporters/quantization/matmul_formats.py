"""Forms that a product may have in a quantized graph, each put in the place of a MatMul and of the Add of its bias.

- *static*: weights in 8 bits a column, activations in 8 bits with a scale that was found at export:
  ``QuantizeLinear`` and ``MatMulIntegerToFloat``;
- *blocks*: weights in 8 or 4 bits a block of inputs, activations in 8 bits with a scale for each row and block, found
  at run time: ``MatMulNBits`` at accuracy level 4. On a processor for which ONNX Runtime has no such kernel it unpacks
  the weights and multiplies in fp32: slower, and no less exact.

In both a row's result does not depend on what is in the other rows. With static scales and in 8 bits it is the same to
the last bit at any number of rows; in 4 bits the last bits are others at one row and at three (measured with AVX2: by
1e-6 of the largest result).

Shapes: d = a product's inputs, columns = its outputs, blocks * block >= d.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

Array = np.ndarray[Any, Any]

LARGEST_WEIGHT = 64
"""In steps, of the static form. Without VNNI two products are added in 16 bits, and 2 * 255 * 64 is the most that fits:
a bundle computes the same on every processor."""

SMALL_BLOCK, LARGEST_BLOCK = 32, 256
"""Inputs that share a scale. 4 bits need a scale for few; 8 bits are as good with a scale for many, which is faster."""


_SHARES = np.linspace(0.7, 1.1, 17)
"""Of the scale that maps the largest weight of a block to the last level: those that are tried."""


def quantize_columns(weight: Array) -> tuple[Array, Array]:
    """[d, columns] float -> int8 [d, columns] within ``LARGEST_WEIGHT``, and float32 scales [columns]."""
    scales = np.abs(weight).max(axis=0) / LARGEST_WEIGHT
    scales[scales == 0] = 1.0  # a column of zeros
    return np.rint(weight / scales).astype(np.int8), scales.astype(np.float32)


def weight_block(d: int, bits: int) -> int:
    """Inputs a block, a power of two from 16 to 256; a last block that is not full is filled up with zeros."""
    if bits == 4:
        return SMALL_BLOCK
    return max(16, min(LARGEST_BLOCK, d & -d))


def quantize_weight_blocks(weight: Array, bits: int) -> tuple[Array, Array]:
    """[d, columns] float -> levels and scales, as ``MatMulNBits`` takes them; zero is the level 8, or 128.

    Args:
        weight: The matrix.
        bits: 4 or 8. With 4 the scale is the one, of several about that of the largest weight, that rounds the block
            best; the levels go from -8 to 7, and so a scale may be negative.

    Returns:
        uint8 [columns, blocks, block * bits / 8] (of two levels in a byte the first is the low one), and float32
        [columns, blocks].
    """
    block = weight_block(len(weight), bits)
    rows = np.pad(weight, ((0, -len(weight) % block), (0, 0))).T.astype(np.float32)
    grouped = rows.reshape(len(rows), -1, block)
    places = np.abs(grouped).argmax(axis=-1, keepdims=True)
    largest = np.take_along_axis(grouped, places, axis=-1)
    largest[largest == 0] = 1.0  # a block of zeros
    if bits == 8:
        scales = np.abs(largest) / 127
        return (np.rint(grouped / scales) + 128).astype(np.uint8), scales[..., 0]
    scales, least = np.zeros_like(largest), np.full_like(largest, np.inf)
    for share in _SHARES:
        tried = -largest / 8 * np.float32(share)
        error = np.square(_levels(grouped, tried) * tried - grouped).sum(axis=-1, keepdims=True)
        scales, least = np.where(error < least, tried, scales), np.minimum(error, least)
    levels = (_levels(grouped, scales) + 8).astype(np.uint8)
    return levels[..., ::2] | levels[..., 1::2] << 4, scales[..., 0]


def _levels(weights: Array, scales: Array) -> Array:
    """In 4 bits with a sign."""
    levels: Array = np.clip(np.rint(weights / scales), -8, 7)
    return levels


def replace_static(
    node: ir.Node,
    weight: ir.Value,
    name: str,
    array: Array,
    scale: np.float32,
    zero: np.uint8,
    kept: ir.Value | None = None,
) -> None:
    """Gives a product the static form.

    Args:
        node: The MatMul.
        weight: Where its weight comes from: what stands for it lies beside it.
        name: What the names of that begin with.
        array: The weight [d, columns].
        scale: A step of the activations.
        zero: Their level that stands for zero.
        kept: int64 [kept], the columns that are multiplied, where they are chosen at run time.
    """
    levels, scales = quantize_columns(np.ascontiguousarray(array))
    name = f"{name}.q8"
    step = [beside(weight, f"{name}.in_scale", np.array(scale)), beside(weight, f"{name}.in_zero", np.array(zero))]
    rounding = ir.node("QuantizeLinear", [_without_relu(node.inputs[0], zero), *step])
    rounding.name = rounding.outputs[0].name = f"{node.name}.rounded"
    assert node.graph is not None
    node.graph.insert_before(node, rounding)
    steps = beside(weight, f"{name}.scales", scales)
    if kept is None:
        factor = beside(weight, name, levels)
    else:
        factor, steps = _kept_columns(node, beside(weight, f"{name}.columns", levels.T.copy()), steps, kept)
    inputs: list[ir.Value | None] = [rounding.outputs[0], factor, step[0], steps, step[1], None]
    last, bias = _bias(node, levels.shape[1])
    swap(node, last, ir.node("MatMulIntegerToFloat", inputs + bias, domain="com.microsoft"))


def _kept_columns(node: ir.Node, table: ir.Value, steps: ir.Value, kept: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Levels [d, kept] and scales [kept], gathered where the graph gathers the float weight's rows.

    Rows of a ``table`` [columns, d] are gathered and then turned: columns would be gathered byte by byte.
    """
    turn = producer(node.inputs[1], "Transpose")
    assert turn is not None and turn.graph is not None
    rows = ir.node("Gather", [table, kept], {"axis": 0})
    turned = ir.node("Transpose", [rows.outputs[0]], {"perm": [1, 0]})
    scales = ir.node("Gather", [steps, kept], {"axis": 0})
    for new, part in ((rows, "rows"), (turned, "turned"), (scales, "scales")):
        new.name = new.outputs[0].name = f"{turn.name}.q8.{part}"
    turn.graph.insert_before(turn, [rows, turned, scales])
    return turned.outputs[0], scales.outputs[0]


def replace_blocks(node: ir.Node, weight: ir.Value, name: str, array: Array, bits: int) -> None:
    """Gives a product the form in blocks of so many bits; other arguments as for ``replace_static``."""
    d, columns = array.shape
    levels, scales = quantize_weight_blocks(array, bits)
    name = f"{name}.b{bits}"
    inputs = [node.inputs[0], beside(weight, name, levels), beside(weight, f"{name}.scales", scales)]
    last, bias = _bias(node, columns)
    inputs += [None, None, *bias] if bias else []
    attributes = {"K": d, "N": columns, "bits": bits, "block_size": weight_block(d, bits), "accuracy_level": 4}
    swap(node, last, ir.node("MatMulNBits", inputs, attributes, domain="com.microsoft"))


def _without_relu(value: ir.Value | None, zero: np.uint8) -> ir.Value | None:
    """What a ReLU reads, where rounding to levels from zero on cuts negative values off, too."""
    relu = None if value is None else value.producer()
    return relu.inputs[0] if relu is not None and relu.op_type == "Relu" and zero == 0 else value


def _bias(node: ir.Node, columns: int) -> tuple[ir.Node, list[ir.Value | None]]:
    """The consumer of a product that adds a constant [columns], or what is kept of one, and that; or the product."""
    consumers = list(node.outputs[0].consumers())
    if len(consumers) != 1 or consumers[0].op_type != "Add" or node.outputs[0].is_graph_output():
        return node, []
    value = next(v for v in consumers[0].inputs if v is not node.outputs[0])
    kept = producer(value, "Gather")
    whole = constant(value if kept is None else kept.inputs[0])
    return (node, []) if whole is None or list(whole.shape or ()) != [columns] else (consumers[0], [value])


def producer(value: ir.Value | None, operator: str) -> ir.Node | None:
    """The node that makes a value, if it is of that operator."""
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == operator else None


def constant(value: ir.Value | None) -> ir.Value | None:
    """The value itself, if it is a float initializer."""
    if value is None or not value.is_initializer() or value.const_value is None:
        return None
    return value if value.const_value.dtype == ir.DataType.FLOAT else None


def beside(neighbour: ir.Value, name: str, array: Array) -> ir.Value:
    """The initializer of that name, in the graph that holds ``neighbour``."""
    graph = neighbour.graph
    assert graph is not None
    if name not in graph.initializers:
        tensor = ir.Tensor(array, name=name)
        kind = ir.TensorType(tensor.dtype)
        graph.register_initializer(ir.Value(name=name, shape=tensor.shape, type=kind, const_value=tensor))
    return graph.initializers[name]


def swap(first: ir.Node, last: ir.Node, new: ir.Node) -> None:
    """Puts ``new`` in the place of ``first`` and, where they are two, of ``last`` after it."""
    graph, old, value = last.graph, last.outputs[0], new.outputs[0]
    assert graph is not None
    new.name, value.name, value.shape, value.type = first.name, old.name, old.shape, old.type
    graph.insert_before(last, new)
    ir.convenience.replace_all_uses_with(old, value, replace_graph_outputs=True)
    graph.remove([first] if first is last else [first, last], safe=True)
