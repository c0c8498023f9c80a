"""PyTorch modules to ONNX graphs: traced one by one, then joined into one graph that holds the whole search.

Joined with onnx_ir: a traced graph is cloned, its weights are lifted into the main graph (one copy of equal ones), its
inputs are replaced by the values that feed it, and its nodes move to where they belong, the loop's body or the main
graph. Only the loop's plumbing is written as a graph by hand.

Shapes: batch, source_len, past_len = tokens decoded so far, length = tokens generated.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.export import Dim

from compressor.bundle import DECODER_STEP, ENCODER, GENERATE
from compressor.errors import ExportError
from compressor.exporters.graphs import (
    STEP_INPUTS,
    STEP_OUTPUTS,
    DecoderStepGraph,
    EncoderGraph,
    StateLayout,
    named_tensors,
)
from compressor.exporters.search import check_honoured
from compressor.generation import GenerationConfig
from compressor.models.base import Seq2SeqModel

OPSET = 23
INT64, BOOL = ir.TensorType(ir.DataType.INT64), ir.TensorType(ir.DataType.BOOL)


def build_graphs(model: Seq2SeqModel, generation: GenerationConfig) -> dict[str, ir.Model]:
    """The fp32 graphs ``encoder``, ``decoder_step`` and ``generate`` of a model.

    Raises:
        ExportError: the graph cannot honour the generation configuration, or the model cannot be traced.
    """
    check_honoured(generation)
    fused, training = model.fused_attention, model.training
    model.fused_attention = True
    model.eval()
    try:
        layout = StateLayout(model)
        encoder, step = _trace_encoder(model, layout), _trace_step(model, generation, layout)
    finally:
        model.fused_attention = fused
        model.train(training)
    generate = join_greedy(encoder, step, layout, generation)
    return {ENCODER: encoder, DECODER_STEP: step, GENERATE: generate}


def _trace_encoder(model: Seq2SeqModel, layout: StateLayout) -> ir.Model:
    sizes = layout.example.sizes
    ids = torch.zeros(sizes["batch"], sizes["source_len"], dtype=torch.int64)
    axes = {0: "batch", 1: "source_len"}
    inputs = {"input_ids": (ids, axes), "attention_mask": (torch.ones_like(ids), axes)}
    return trace(EncoderGraph(model), inputs, layout.names)


def _trace_step(model: Seq2SeqModel, generation: GenerationConfig, layout: StateLayout) -> ir.Model:
    token = torch.zeros(layout.example.sizes["batch"], dtype=torch.int64)
    examples = (token, torch.tensor(1), torch.tensor(9), token != 0)
    axes: tuple[dict[int, str], ...] = ({0: "batch"}, {}, {}, {0: "batch"})
    inputs = dict(zip(STEP_INPUTS, zip(examples, axes, strict=True), strict=True))
    for (name, tensor), dynamic in zip(named_tensors(layout.example.state), layout.dynamic, strict=True):
        inputs[name] = (tensor, dynamic)
    outputs = [*STEP_OUTPUTS, *(f"next_{name}" for name in layout.carried)]
    return trace(DecoderStepGraph(model, generation, layout), inputs, outputs, packed=len(layout.names))


def trace(
    module: nn.Module, inputs: dict[str, tuple[Tensor, dict[int, str]]], output_names: Sequence[str], packed: int = 0
) -> ir.Model:
    """Traces a module.

    Args:
        module: What to trace.
        inputs: Name to example tensor and the names of its dynamic axes, in the order of ``forward``. Axes of one name
            have one size.
        output_names: Names of the outputs.
        packed: How many of the last inputs ``forward`` takes as ``*args``.

    Raises:
        ExportError: PyTorch cannot export it.
    """
    names = sorted({axis for _, axes in inputs.values() for axis in axes.values()})
    dims = {name: Dim(name, min=1, max=1 << 20) for name in names}
    shapes: list[Any] = [{axis: dims[name] for axis, name in axes.items()} for _, axes in inputs.values()]
    if packed:
        shapes[-packed:] = [tuple(shapes[-packed:])]
    try:
        with _quiet():
            program = torch.onnx.export(
                module.eval(),
                tuple(tensor for tensor, _ in inputs.values()),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=list(output_names),
                dynamic_shapes=tuple(shapes),
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ExportError(f"{type(module).__name__} cannot be traced: {' '.join(str(error).split())[:300]}") from error
    assert program is not None
    return _tidied(program.model, {name: axes for name, (_, axes) in inputs.items()})


def _tidied(model: ir.Model, inputs: dict[str, dict[int, str]]) -> ir.Model:
    """Drops metadata (it holds file paths), and makes sure that no dynamic axis was fixed."""
    for item in (model, model.graph, *model.graph, *(value for node in model.graph for value in node.outputs)):
        item.metadata_props.clear()
        item.doc_string = None
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    for value in model.graph.inputs:
        for axis in inputs[str(value.name)]:
            if isinstance(value.shape[axis], int):  # type: ignore[index]
                raise ExportError(f"the model fixes axis {axis} of {value.name} to {value.shape[axis]}")  # type: ignore[index]
    model.producer_name = "compressor"
    model.producer_version = None
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns about its own dependencies, several times a call."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def join_greedy(encoder: ir.Model, step: ir.Model, layout: StateLayout, generation: GenerationConfig) -> ir.Model:
    """One graph: ``input_ids``, ``attention_mask``, ``max_new_tokens`` -> ``output_ids`` [batch, length].

    The loop ends when every sentence has, or after ``max_new_tokens`` tokens.
    """
    ids, mask = (_value(name, INT64, ["batch", "source_len"]) for name in ("input_ids", "attention_mask"))
    limit = _value("max_new_tokens", INT64, [])
    main = ir.Graph([ids, mask, limit], [], nodes=[], opset_imports={"": OPSET, "com.microsoft": 1}, name="generate")
    weights = Weights(main)
    nodes, outputs = inline(encoder, {"input_ids": ids, "attention_mask": mask}, "encoder.", weights)
    main.extend(nodes)
    state = dict(zip(layout.names, outputs, strict=True))
    batch = _append(main, "Shape", [ids], {"start": 0, "end": 1}, "batch_size")
    token = _append(main, "Expand", [weights.constant("start_id", np.array([generation.start_id])), batch], {}, "start")
    finished = _append(main, "Expand", [weights.constant("no", np.array([False])), batch], {}, "none_finished")
    empty = _append(main, "Concat", [batch, weights.constant("zero", np.array([0]))], {"axis": 0}, "empty_shape")
    output = _append(main, "Expand", [weights.constant("nothing", np.zeros((1, 0), np.int64)), empty], {}, "no_ids")
    body = _body(step, layout, {name: state[name] for name in layout.names}, limit, weights)
    initial = [limit, weights.constant("yes", np.array(True)), token, finished, output]
    carried = [state[name] for name in layout.carried]
    loop = ir.node("Loop", [*initial, *carried], {"body": body}, num_outputs=3 + len(carried))
    loop.name = "search"
    for index, value in enumerate(loop.outputs):
        value.name = f"search.{index}"
    main.append(loop)
    result = _append(main, "Identity", [loop.outputs[2]], {}, "output_ids")
    result.type, result.shape = INT64, ir.Shape(["batch", "length"])
    main.outputs.append(result)
    return ir.Model(main, ir_version=10, producer_name="compressor")


def _body(
    step: ir.Model, layout: StateLayout, state: dict[str, ir.Value], limit: ir.Value, weights: Weights
) -> ir.Graph:
    """The loop's body: one traced step, and the new tokens appended to the output."""
    # Sizes of carried values change from turn to turn: a name would let ONNX Runtime reuse a buffer of the old size.
    number, proceed = _value("turn", INT64, []), _value("proceed", BOOL, [])
    token, finished = _value("token", INT64, [None]), _value("finished", BOOL, [None])
    output = _value("ids", INT64, [None, None])
    traced = {str(value.name): value for value in step.graph.inputs}
    carried = {name: _value(f"past.{name}", traced[name].type, _fixed_sizes(traced[name])) for name in layout.carried}
    inputs = [number, proceed, token, finished, output, *carried.values()]
    body = ir.Graph(inputs, [], nodes=[], name="search_body")
    feeds = {"token": token, "step": number, "max_new_tokens": limit, "finished": finished, **state, **carried}
    nodes, results = inline(step, feeds, "step.", weights)
    body.extend(nodes)
    next_token, next_finished, unfinished, _, *following = results
    column = _append(body, "Unsqueeze", [next_token, weights.constant("one", np.array([1]))], {}, "column")
    longer = _append(body, "Concat", [output, column], {"axis": 1}, "longer_ids")
    for value in (next_token, next_finished, *following):  # their sizes too have no name outside of this turn
        value.shape = ir.Shape(_fixed_sizes(value))
    longer.type, longer.shape = INT64, ir.Shape([None, None])
    body.outputs.extend([unfinished, next_token, next_finished, longer, *following])
    return body


class Weights:
    """The main graph's initializers; equal ones are kept once, and are used from every subgraph."""

    def __init__(self, main: ir.Graph) -> None:
        self.main = main
        self._known: dict[tuple[Any, ...], ir.Value] = {}

    def add(self, name: str, tensor: ir.TensorProtocol) -> ir.Value:
        """The initializer with that content."""
        key = (tensor.dtype, tuple(tensor.shape), hashlib.sha256(tensor.tobytes()).digest())
        if key not in self._known:
            value = ir.Value(
                name=name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor
            )
            self.main.register_initializer(value)
            self._known[key] = value
        return self._known[key]

    def constant(self, name: str, array: np.ndarray[Any, Any]) -> ir.Value:
        """A constant of the plumbing."""
        return self.add(f"plumbing.{name}", ir.Tensor(array, name=f"plumbing.{name}"))


def inline(
    model: ir.Model, feeds: dict[str, ir.Value], prefix: str, weights: Weights
) -> tuple[list[ir.Node], list[ir.Value]]:
    """A copy of a traced graph's nodes, fed by other values.

    Args:
        model: The traced graph; it is not changed.
        feeds: Input name to the value that takes its place.
        prefix: Put before every name, for body and main graph share one name space.
        weights: Takes the initializers.

    Returns:
        The nodes, which belong to no graph, and the graph's outputs.
    """
    graph = model.graph.clone()
    replaced = {value: feeds[str(value.name)] for value in graph.inputs}
    for name, value in graph.initializers.items():
        assert value.const_value is not None
        replaced[value] = weights.add(prefix + name, value.const_value)
    outputs = [replaced.get(value, value) for value in graph.outputs]
    graph.outputs.clear()
    for value, replacement in replaced.items():
        ir.convenience.replace_all_uses_with(value, replacement)
    nodes = list(graph)
    graph.remove(nodes)
    for node in nodes:
        node.name = f"{prefix}{node.name}"
        for value in node.outputs:
            value.name = f"{prefix}{value.name}"
            if value.shape is not None:
                value.shape = ir.Shape([_prefixed(dim, prefix) for dim in value.shape])
    return nodes, outputs


def _prefixed(dim: int | ir.SymbolicDim, prefix: str) -> int | str | None:
    """Equal names of dimensions must mean equal sizes, and each part has its own."""
    if isinstance(dim, int):
        return dim
    return None if dim.value is None else f"{prefix}{dim.value}"


def _fixed_sizes(value: ir.Value) -> list[int | None]:
    """The shape without its symbolic dimensions."""
    assert value.shape is not None
    return [dim if isinstance(dim, int) else None for dim in value.shape]


def _value(name: str, kind: Any, shape: Sequence[int | str | None]) -> ir.Value:
    return ir.Value(name=name, type=kind, shape=ir.Shape(shape))


def _append(graph: ir.Graph, operator: str, inputs: list[ir.Value], attributes: dict[str, Any], name: str) -> ir.Value:
    """Adds a node with one output, which it returns."""
    node = ir.node(operator, inputs, attributes)
    node.name = node.outputs[0].name = name
    graph.append(node)
    return node.outputs[0]
