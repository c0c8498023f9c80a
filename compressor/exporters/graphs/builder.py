"""Tools to join traced graphs with onnx_ir: nodes by hand, copies of traced graphs, loops, one set of weights.

A traced graph is cloned, its weights are lifted into the main graph (one copy of equal ones), its inputs are replaced
by the values that feed it, and its nodes move to where they belong, a loop's body or the main graph.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from compressor.exporters.graphs.modules import Slot

INT64, BOOL = ir.TensorType(ir.DataType.INT64), ir.TensorType(ir.DataType.BOOL)

Values = dict[str, ir.Value]


class Weights:
    """Initializers of a graph. Equal ones are stored once; the bodies of the graph's loops use them, too.

    ONNX Runtime prepacks the weights of a loop's body where they are initializers of the body or of the graph right
    around it. A matmul whose weight lies two levels out packs it again at every step (measured: up to 15 times the
    time of a search). Right around it is best: in the body itself they would be held in memory several times.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self._known: dict[tuple[Any, ...], ir.Value] = {}

    def add(self, name: str, tensor: ir.TensorProtocol) -> ir.Value:
        """Returns the initializer with that content, which is added if the graph has none."""
        key = (tensor.dtype, tuple(tensor.shape), hashlib.sha256(tensor.tobytes()).digest())
        if key not in self._known:
            value = ir.Value(
                name=name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor
            )
            self.graph.register_initializer(value)
            self._known[key] = value
        return self._known[key]


class Plumbing:
    """Writes into a graph: the main one, or a loop's body."""

    def __init__(self, graph: ir.Graph, weights: Weights) -> None:
        self.graph, self.weights = graph, weights

    def constant(self, content: Any) -> ir.Value:
        """Returns an initializer: a number, or an array of integers or booleans."""
        array = np.array(content)
        content = "_".join(map(str, (array.dtype, array.ndim, *array.flatten())))
        name = f"{self.weights.graph.name}.{content}"
        return self.weights.add(name, ir.Tensor(array, name=name))

    def put(self, name: str, operator: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        """Adds a node with one output, which it returns."""
        node = ir.node(operator, inputs, attributes)
        node.name = node.outputs[0].name = name
        self.graph.append(node)
        return node.outputs[0]

    def inline(self, model: ir.Model, feeds: Values, prefix: str) -> Values:
        """Adds a copy of a traced graph's nodes, fed by other values.

        Args:
            model: The traced graph; it is not changed.
            feeds: Input name to the value that takes its place; other names are ignored.
            prefix: Put before every name, for all graphs share one name space.

        Returns:
            The traced graph's outputs, by name.
        """
        graph = model.graph.clone()
        replaced = {value: feeds[str(value.name)] for value in graph.inputs}
        for part in (graph, *graph.subgraphs()):
            for name, value in part.initializers.items():
                assert value.const_value is not None
                replaced[value] = self.weights.add(prefix + name, value.const_value)
        outputs = {str(value.name): replaced.get(value, value) for value in graph.outputs}
        graph.outputs.clear()
        for value, replacement in replaced.items():
            ir.convenience.replace_all_uses_with(value, replacement)
        for part in graph.subgraphs():
            part.initializers.clear()
        for node in ir.traversal.RecursiveGraphIterator(graph):
            node.name = f"{prefix}{node.name}"
            for value in node.outputs:
                value.name = f"{prefix}{value.name}"
                if value.shape is not None:
                    value.shape = ir.Shape([_prefixed(dim, prefix) for dim in value.shape])
        nodes = list(graph)
        graph.remove(nodes)
        self.graph.extend(nodes)
        return outputs

    def loop(
        self,
        name: str,
        trips: ir.Value,
        carried: Sequence[Slot],
        values: Values,
        turn: Callable[[Plumbing, Values], tuple[ir.Value, Values]],
        *,
        fixed: Collection[str] = (),
        holds_weights: bool = False,
    ) -> Values:
        """Adds a Loop, and returns the last values of what is carried.

        Args:
            name: Name of the node, and prefix of the body's own names.
            trips: The most turns; int64 scalar.
            carried: The tensors that a turn hands to the next.
            values: By name: the carried ones' first values, and all others that the body reads.
            turn: Fills the body: from its values to whether to go on (bool scalar), and the carried ones' next values.
                What computes the same in every turn is then taken out of it.
            fixed: Names of the axes that keep their size from turn to turn.
            holds_weights: Whether weights used in the body are the body's own; else they are of the graph around it.
        """
        # Sizes change from turn to turn: a name would let ONNX Runtime reuse a buffer of the old one.
        given = {slot.name: new_value(f"{name}.{slot.name}", kind(slot), _fixed_sizes(slot)) for slot in carried}
        number, proceed = new_value(f"{name}.turn", INT64, []), new_value(f"{name}.proceed", BOOL, [])
        body = ir.Graph([number, proceed, *given.values()], [], nodes=[], name=f"{name}_body")
        weights = Weights(body) if holds_weights else self.weights
        proceeds, following = turn(Plumbing(body, weights), values | given)
        for slot in carried:
            value = following[slot.name]
            value.type, value.shape = kind(slot), ir.Shape(_fixed_sizes(slot))
        body.outputs.extend([proceeds, *(following[slot.name] for slot in carried)])
        _use_sizes_before_loop(body, {given[slot.name]: (slot, values[slot.name]) for slot in carried}, fixed)
        for node in [*body]:
            if _is_invariant(node, body):
                body.remove(node)
                self.graph.append(node)
        first = [trips, self.constant(True), *(values[slot.name] for slot in carried)]
        node = ir.node("Loop", first, {"body": body}, num_outputs=len(carried))
        node.name = name
        self.graph.append(node)
        last = dict(zip((slot.name for slot in carried), node.outputs, strict=True))
        for slot in carried:
            value = last[slot.name]
            value.name, value.type, value.shape = f"{name}.last.{slot.name}", kind(slot), ir.Shape(_fixed_sizes(slot))
        return last


def _use_sizes_before_loop(
    body: ir.Graph, carried: dict[ir.Value, tuple[Slot, ir.Value]], fixed: Collection[str]
) -> None:
    """Replaces, in a loop's body, the sizes that no turn changes by those of the values before the first turn.

    Nodes that compute with these sizes can then be moved out of the body.
    """
    for node in body:
        if node.op_type == "Shape" and node.inputs[0] in carried:
            slot, first = carried[node.inputs[0]]
            axis, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", -1)
            if end == axis + 1 and slot.axes.get(axis, "") in ("", *fixed):
                node.replace_input_with(0, first)


def _is_invariant(node: ir.Node, body: ir.Graph) -> bool:
    """Returns whether a node of a loop's body computes the same in every turn, from values outside the body."""
    inside = [value for value in node.inputs if value is not None and _home(value) is body]
    has_graphs = any(attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values())
    return not inside and not has_graphs and not any(value in body.outputs for value in node.outputs)


def _home(value: ir.Value) -> ir.Graph | ir.Function | None:
    """Returns the graph that a value belongs to."""
    producer = value.producer()
    return value.graph if producer is None else producer.graph


def new_value(name: str, kind: ir.TensorType, shape: Sequence[int | str | None]) -> ir.Value:
    """Returns a value that no node computes, for an input."""
    return ir.Value(name=name, type=kind, shape=ir.Shape(shape))


def graph_input(slot: Slot) -> ir.Value:
    """Returns an input of the main graph, with names for its dynamic axes."""
    shape = [slot.axes.get(axis, size) for axis, size in enumerate(slot.example.shape)]
    return new_value(slot.name, kind(slot), shape)


def kind(slot: Slot) -> ir.TensorType:
    """Returns the element type of a tensor."""
    return ir.TensorType(ir.tensor(slot.example).dtype)


def _fixed_sizes(slot: Slot) -> list[int | None]:
    """Returns the sizes of a tensor's axes, None for dynamic ones."""
    return [None if axis in slot.axes else size for axis, size in enumerate(slot.example.shape)]


def _prefixed(dim: int | ir.SymbolicDim, prefix: str) -> int | str | None:
    """Returns a dimension with the prefix before its name: equal names must mean equal sizes in the whole graph."""
    if isinstance(dim, int):
        return dim
    return None if dim.value is None else f"{prefix}{dim.value}"
