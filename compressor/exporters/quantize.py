"""int8: every product's constant weight is stored in 8 bits, block-wise and symmetric, and so is every embedding table.

Two forms, neither of which lets a sentence's result depend on what else is in the batch (``DynamicQuantizeMatMul``,
ONNX Runtime's usual form, does: it takes one activation scale for the whole batch).

- In a decoding step, which has one row a sentence, ``MatMulNBits`` at accuracy level 4: the weights are read as they
  are, and each row of activations gets scales of its own. A tied embedding and the output layer read the same bytes.
- In the encoder, which has a row for each source token, the weight is restored and the product is a float one: ONNX
  Runtime restores it once, when the graph is opened. Measured without VNNI: a sentence in 2.14 ms instead of 2.27.

Written here rather than taken from ``onnxruntime.quantization`` for that sharing, and for the fused bias.
Shapes: rows = outputs of a product, d = its inputs, blocks * block = d.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from compressor.errors import ExportError

BLOCK_SIZES = (64, 32, 16)
"""The largest that divides d is taken: measured on AVX2, 64 is as fast as any at one row, and the smallest file."""

SCHEME = "8-bit block-wise weights and embedding (decoder: MatMulNBits, accuracy level 4; encoder: float products)"
_PRODUCTS = {"MatMul", "Gemm", "FusedMatMul", "FusedGemm"}


def block_size(d: int) -> int:
    """The block of a dimension. Raises ExportError where there is none."""
    for size in BLOCK_SIZES:
        if d % size == 0:
            return size
    raise ExportError(f"int8 needs widths that are multiples of {BLOCK_SIZES[-1]}, and one is {d}: export fp32 only")


def quantize_blocks(weight: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """[rows, d] float -> uint8 [rows, d] with zero at 128, and float32 scales [rows, blocks]."""
    rows, d = weight.shape
    block = block_size(d)
    grouped = weight.reshape(rows, d // block, block).astype(np.float32)
    scales = np.abs(grouped).max(axis=-1) / 127
    scales[scales == 0] = 1.0  # a block of zeros
    levels = np.rint(grouped / scales[..., None]) + 128
    return levels.astype(np.uint8).reshape(rows, d), scales.astype(np.float32)


def quantize(model: ir.Model, vocab_size: int, *, is_step: bool = False) -> None:
    """Rewrites a graph in place, its subgraphs included; weights are the main graph's initializers.

    Args:
        model: A graph from ``build_graphs``.
        vocab_size: Tables of that many rows are embeddings; other tables (positions) stay as they are.
        is_step: The whole graph is a decoding step; else only a loop's body is.

    Raises:
        ExportError: a width is not a multiple of the smallest block.
    """
    model.graph.opset_imports["com.microsoft"] = 1
    for node in list(_nodes(model.graph)):
        if node.op_type == "MatMul" and (weight := _product_weight(node)) is not None:
            if is_step or node.graph is not model.graph:
                _replace_product(model.graph, node, *weight)
            else:
                _restore_weight(model.graph, node, *weight)
        elif node.op_type == "Gather" and (table := _table(node, vocab_size)) is not None:
            _replace_gather(model.graph, node, table)
    _drop_unused(model.graph)


def _nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    return iter(ir.traversal.RecursiveGraphIterator(graph))


def _constant(value: ir.Value | None) -> ir.Value | None:
    """The value itself, if it is a float initializer."""
    if value is None or not value.is_initializer() or value.const_value is None:
        return None
    return value if value.const_value.dtype == ir.DataType.FLOAT else None


def _product_weight(node: ir.Node) -> tuple[ir.Value, bool] | None:
    """The constant [d, rows] factor of a product, or [rows, d] with True if the graph transposes it."""
    factor = node.inputs[1]
    if (direct := _constant(factor)) is not None:
        return (direct, False) if len(direct.shape or ()) == 2 else None
    producer = None if factor is None else factor.producer()
    if producer is None or producer.op_type != "Transpose":
        return None
    turned = _constant(producer.inputs[0])
    return None if turned is None or len(turned.shape or ()) != 2 else (turned, True)


def _table(node: ir.Node, vocab_size: int) -> ir.Value | None:
    table = _constant(node.inputs[0])
    if table is None or len(table.shape or ()) != 2 or node.attributes.get_int("axis", 0) != 0:
        return None
    return table if table.shape is not None and table.shape[0] == vocab_size else None


def _replace_product(main: ir.Graph, node: ir.Node, weight: ir.Value, turned: bool) -> None:
    """MatMul, and the Add of its bias if there is one, become one node."""
    grouped, scales = _stored(main, weight, turned)
    rows, blocks, block = grouped.shape.numpy()  # type: ignore[union-attr]
    inputs: list[ir.Value | None] = [node.inputs[0], grouped, scales]
    last = node
    if (bias := _bias(node, rows)) is not None:
        last, value = bias
        inputs += [None, None, value]  # no zero points (128), no group index
    attributes = {"K": blocks * block, "N": rows, "bits": 8, "block_size": block, "accuracy_level": 4}
    _swap(node, last, ir.node("MatMulNBits", inputs, attributes, domain="com.microsoft"))


def _restore_weight(main: ir.Graph, node: ir.Node, weight: ir.Value, turned: bool) -> None:
    """MatMul reads (levels - 128) * scale, turned to [d, rows]: constants, which ONNX Runtime folds into one."""
    levels, scales = _stored(main, weight, turned)
    rows, blocks, block = levels.shape.numpy()  # type: ignore[union-attr]
    last = _initializer(main, "q8.last_axis", np.array([-1]))
    shape = _initializer(main, f"q8.{rows}x{blocks * block}", np.array([rows, blocks * block]))
    steps: list[tuple[str, list[ir.Value], dict[str, Any]]] = [
        ("Cast", [], {"to": int(ir.DataType.FLOAT)}),
        ("Sub", [_initializer(main, "q8.zero", np.array(128, np.float32))], {}),
        ("Mul", [_before(node, "Unsqueeze", [scales, last], {})], {}),
        ("Reshape", [shape], {}),
        ("Transpose", [], {"perm": [1, 0]}),
    ]
    value = levels
    for operator, inputs, attributes in steps:
        value = _before(node, operator, [value, *inputs], attributes)
    node.replace_input_with(1, value)


def _before(node: ir.Node, operator: str, inputs: list[ir.Value], attributes: dict[str, Any]) -> ir.Value:
    """Puts a node with one output, which it returns, before another."""
    new = ir.node(operator, inputs, attributes)
    new.name = new.outputs[0].name = f"{node.name}.{operator}"
    assert node.graph is not None
    node.graph.insert_before(node, new)
    return new.outputs[0]


def _stored(main: ir.Graph, weight: ir.Value, turned: bool) -> tuple[ir.Value, ir.Value]:
    """The initializers of a weight: uint8 [rows, blocks, block] and scales [rows, blocks]."""
    array = weight.const_value.numpy()  # type: ignore[union-attr]
    levels, scales = quantize_blocks(array if turned else np.ascontiguousarray(array.T))
    name = f"{weight.name}{'' if turned else '.T'}.q8"
    grouped = levels.reshape(*scales.shape, -1)
    return _initializer(main, f"{name}.blocks", grouped), _initializer(main, f"{name}.scales", scales)


def _bias(node: ir.Node, rows: int) -> tuple[ir.Node, ir.Value] | None:
    """The only consumer of a product, if it adds a constant [rows]."""
    consumers = list(node.outputs[0].consumers())
    if len(consumers) != 1 or consumers[0].op_type != "Add" or node.outputs[0].is_graph_output():
        return None
    value = next((_constant(v) for v in consumers[0].inputs if v is not node.outputs[0]), None)
    return None if value is None or list(value.shape or ()) != [rows] else (consumers[0], value)


def _replace_gather(main: ir.Graph, node: ir.Node, table: ir.Value) -> None:
    levels, scales = quantize_blocks(table.const_value.numpy())  # type: ignore[union-attr]
    inputs = [
        _initializer(main, f"{table.name}.q8", levels),
        node.inputs[1],
        _initializer(main, f"{table.name}.q8.scales", scales),
    ]
    attributes = {"bits": 8, "block_size": block_size(levels.shape[1]), "gather_axis": 0, "quantize_axis": 1}
    _swap(node, node, ir.node("GatherBlockQuantized", inputs, attributes, domain="com.microsoft"))


def _initializer(main: ir.Graph, name: str, array: np.ndarray[Any, Any]) -> ir.Value:
    if name not in main.initializers:
        tensor = ir.Tensor(array, name=name)
        kind = ir.TensorType(tensor.dtype)
        main.register_initializer(ir.Value(name=name, shape=tensor.shape, type=kind, const_value=tensor))
    return main.initializers[name]


def _swap(first: ir.Node, last: ir.Node, new: ir.Node) -> None:
    """Puts ``new`` in the place of ``first`` and, where they are two, of ``last`` after it."""
    graph, old, value = last.graph, last.outputs[0], new.outputs[0]
    assert graph is not None
    new.name, value.name, value.shape, value.type = first.name, old.name, old.shape, old.type
    graph.insert_before(last, new)
    ir.convenience.replace_all_uses_with(old, value, replace_graph_outputs=True)
    graph.remove([first] if first is last else [first, last], safe=True)


def _drop_unused(main: ir.Graph) -> None:
    """Transposes of tables and float weights that nothing reads any more."""
    for node in reversed(list(_nodes(main))):
        used = any(value.uses() or value.is_graph_output() for value in node.outputs)
        if node.op_type == "Transpose" and not used and node.graph is not None:
            node.graph.remove(node, safe=True)
    for name, value in list(main.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            main.initializers.pop(name)


def check_quantized(path: Path) -> None:
    """Looks for float products with a constant weight, in the graph as it is stored and as ONNX Runtime optimizes it.

    Raises:
        ExportError: names the products that were left in fp32.
    """
    import onnxruntime

    stored = ir.load(path)

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        optimized = float_products(ir.load(options.optimized_model_filepath))
    left = float_products(stored) or sorted(set(optimized) - restored_products(stored))
    if left:
        raise ExportError(f"{path.name}: these products were left in fp32: {', '.join(left)}")


def float_products(model: ir.Model) -> list[str]:
    """Names of the products, subgraphs included, one factor of which is a constant matrix."""
    return [
        str(node.name)
        for node in _nodes(model.graph)
        if node.op_type in _PRODUCTS
        and any(v is not None and v.const_value is not None and len(v.shape or ()) >= 2 for v in node.inputs)
    ]


def restored_products(model: ir.Model) -> set[str]:
    """Names of the main graph's float products whose weight is restored from 8 bits."""
    names = set()
    for node in model.graph:
        producer = node.inputs[1].producer() if node.op_type == "MatMul" and node.inputs[1] is not None else None
        if producer is not None and producer.name == f"{node.name}.Transpose":
            names.add(str(node.name))
    return names
