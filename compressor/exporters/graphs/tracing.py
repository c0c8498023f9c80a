"""PyTorch modules to ONNX graphs, one by one.

Shapes: batch, source_len, beams, length, past_len as in ``graphs``.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import onnx_ir as ir
import torch
from onnxscript import opset23 as operators
from torch import Tensor, nn
from torch.export import Dim

from compressor.decoding.shortlist import LexicalTable, Shortlist
from compressor.errors import ExportError
from compressor.exporters.graphs.modules import (
    EncoderGraph,
    Layout,
    StepGraph,
    searched,
)
from compressor.generation_config import GenerationConfig
from compressor.models.base import Seq2SeqModel

OPSET = 23

Inputs = dict[str, tuple[Tensor, dict[int, str]]]
"""Name to example tensor and the names of its dynamic axes."""


class Parts(NamedTuple):
    """Graphs of a model and of a search over it, and the tensors that they hand on."""

    layout: Layout
    encoder: ir.Model
    step: ir.Model


@torch.no_grad()
def trace_parts(
    model: Seq2SeqModel, generation: GenerationConfig, *, beams: bool, table: LexicalTable | None = None
) -> Parts:
    """Traces what ``join`` needs for greedy search, or for beam search; with ``table``, over a shortlist.

    Raises:
        ExportError: PyTorch cannot export it.
    """
    restricted, search = searched(model, generation, beams=beams, shortlisted=table is not None)
    layout = Layout(restricted, search, None if table is None else Shortlist.from_table(table, search.constraints))
    return Parts(layout, _encoder(restricted, layout), _step(restricted, layout))


def _encoder(model: Seq2SeqModel, layout: Layout) -> ir.Model:
    """Traces the encoder with the first states of decoder and search."""
    ids, axes = torch.zeros(2, 5, dtype=torch.int64), {0: "batch", 1: "source_len"}
    inputs: Inputs = {"input_ids": (ids, axes), "attention_mask": (torch.ones_like(ids), axes)}
    if layout.has_beams:
        inputs["slots"] = (torch.zeros(3, dtype=torch.int64), {0: "beams"})
    names = [slot.name for slot in (*layout.search_slots, *layout.state)]
    return trace(EncoderGraph(model, layout), inputs, names, packed=len(inputs) - 2, limits=_limits(layout))


def _step(model: Seq2SeqModel, layout: Layout) -> ir.Model:
    """Traces one step of model and search."""
    inputs: Inputs = {"step": (torch.tensor(1), {})}
    inputs |= {slot.name: (slot.example, slot.axes) for slot in (*layout.options, *layout.search_slots, *layout.state)}
    names = ["next_step", "going", *(f"next_{slot.name}" for slot in (*layout.search_slots, *layout.carried)), "logits"]
    return trace(StepGraph(model, layout), inputs, names, packed=len(inputs) - 1, limits=_limits(layout))


def _limits(layout: Layout) -> dict[str, tuple[int, int]]:
    """Returns the least and greatest size of axes: a step of beam search has two candidates a beam."""
    return {"beams": (1, layout.max_beams), "kept": (2 * layout.max_beams, layout.columns + 1)}


def trace(
    module: nn.Module,
    inputs: Inputs,
    output_names: Sequence[str],
    *,
    packed: int = 0,
    limits: Mapping[str, tuple[int, int]] | None = None,
) -> ir.Model:
    """Returns the ONNX graph of a module.

    Args:
        module: What to trace.
        inputs: Name to example tensor and the names of its dynamic axes, in the order of ``forward``. Axes of one name
            have one size.
        output_names: Names of the outputs.
        packed: How many of the last inputs ``forward`` takes as ``*args``.
        limits: The least and the most that axes of that name can be.

    Raises:
        ExportError: PyTorch cannot export it.
    """
    names = sorted({axis for _, axes in inputs.values() for axis in axes.values()})
    sizes = {name: (limits or {}).get(name, (1, 1 << 20)) for name in names}
    dims = {name: Dim(name, min=least, max=most) for name, (least, most) in sizes.items()}
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
                custom_translation_table={torch.ops.aten.sym_stride.int: _stride},
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ExportError(f"{type(module).__name__} cannot be traced: {' '.join(str(error).split())[:300]}") from error
    assert program is not None and len(program.model.graph.outputs) == len(output_names)
    _keep_norms_plain(program.model)
    _gather_rows(program.model)
    return _tidied(program.model, {name: axes for name, (_, axes) in inputs.items()})


def _stride(tensor: Any, dim: int) -> Any:
    """Translates the strides of a tensor, for which the exporter has no translation.

    Branches of a condition are given the strides of their operands, and use none.
    """
    return operators.ReduceProd(operators.Shape(tensor, start=dim + 1), keepdims=0)


def _keep_norms_plain(model: ir.Model) -> None:
    """Writes the sum before a layer norm as Sum: ONNX Runtime would fuse an Add into SkipLayerNormalization.

    That kernel is not vectorised on CPUs: measured on 896 rows of 256, 1,359 µs, where Sum and LayerNormalization take
    209.
    """
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.op_type == "LayerNormalization" and node.inputs[0] is not None:
            producer = node.inputs[0].producer()
            if producer is not None and producer.op_type == "Add":
                producer.op_type = "Sum"


def _gather_rows(model: ir.Model) -> None:
    """Writes the choice of whole rows, [batch, n, width] and [batch, m], as one GatherND instead of element by element.

    The exporter repeats each row's number over its width, whose size then has to be computed at every step.
    """
    for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
        repeated = node.inputs[1].producer() if node.op_type == "GatherElements" and node.inputs[1] else None
        numbers = repeated.inputs[0] if repeated is not None and repeated.op_type == "Expand" else None
        single = numbers.producer() if numbers is not None else None
        if node.attributes.get_int("axis", 0) != 1 or single is None or single.op_type != "Unsqueeze":
            continue
        assert node.graph is not None
        new = ir.node("GatherND", [node.inputs[0], numbers], {"batch_dims": 1})
        old, value = node.outputs[0], new.outputs[0]
        new.name, value.name, value.shape, value.type = node.name, old.name, old.shape, old.type
        node.graph.insert_before(node, new)
        ir.convenience.replace_all_uses_with(old, value, replace_graph_outputs=True)
        node.graph.remove(node, safe=True)
    ir.passes.common.RemoveUnusedNodesPass()(model)


def _tidied(model: ir.Model, inputs: dict[str, dict[int, str]]) -> ir.Model:
    """Drops metadata (it holds file paths), and makes sure that no dynamic axis was fixed."""
    nodes = list(ir.traversal.RecursiveGraphIterator(model.graph))
    graphs = [model.graph, *model.graph.subgraphs()]
    documented: list[Any] = [model, *graphs, *nodes, *(value for node in nodes for value in node.outputs)]
    for item in documented:
        item.metadata_props.clear()
        item.doc_string = None
    for value in (value for graph in graphs for value in (*graph.inputs, *graph.initializers.values())):
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
    """Silences the exporter, which warns about its own dependencies several times a call."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
