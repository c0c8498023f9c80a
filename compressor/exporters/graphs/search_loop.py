"""A model's graphs: traced parts, and the whole search joined from them.

A search has two loops, one in the other. A turn of the inner one is a step of the search; it ends when a good part of
the batch has finished. A turn of the outer one then writes the outputs to their places and takes what has finished out.
"""

from __future__ import annotations

import copy

import numpy as np
import onnx_ir as ir
import torch

from compressor.bundle import (
    DECODER_STEP,
    ENCODER,
    GENERATE,
    GENERATE_BEAMS,
)
from compressor.decoding.shortlist import LexicalTable
from compressor.exporters.graphs.builder import (
    INT64,
    Plumbing,
    Values,
    Weights,
    graph_input,
    new_value,
)
from compressor.exporters.graphs.modules import Slot
from compressor.exporters.graphs.tracing import OPSET, Parts, trace_parts
from compressor.generation_config import GenerationConfig
from compressor.models.base import Seq2SeqModel

STEP, ROWS = Slot("step", torch.tensor(0), {}, False), Slot("rows", torch.arange(2), {0: "batch"}, False)


def build_graphs(
    model: Seq2SeqModel, generation: GenerationConfig, table: LexicalTable | None = None
) -> dict[str, ir.Model]:
    """Returns the fp32 graphs ``encoder``, ``decoder_step``, ``generate`` (greedy) and ``generate_beams`` of a model.

    Those of a lexical shortlist, if there is a ``table`` of it.

    Raises:
        ExportError: the model cannot be traced.
    """
    fused, training = model.fused_attention, model.training
    model.fused_attention = True
    model.eval()
    try:
        greedy, beams = (trace_parts(model, generation, beams=beams, table=table) for beams in (False, True))
    finally:
        model.fused_attention = fused
        model.train(training)
    return {ENCODER: greedy.encoder, DECODER_STEP: greedy.step, GENERATE: join(greedy), GENERATE_BEAMS: join(beams)}


def build_half_graphs(model: Seq2SeqModel, generation: GenerationConfig) -> dict[str, ir.Model]:
    """Returns the same graphs in fp16: weights, activations and states of the model. Logits and searches stay in fp32.

    Raises:
        ExportError: the model cannot be traced.
    """
    return build_graphs(copy.deepcopy(model).half(), generation)


def join(parts: Parts) -> ir.Model:
    """Returns one graph for a whole search.

    Inputs: ``input_ids`` and ``attention_mask`` [batch, source_len], the search's options, for beams ``num_beams``.
    Outputs: ``output_ids`` [batch, length]; for beams [batch, beams, length], best first, and ``scores``.
    """
    layout = parts.layout
    ids, mask = (new_value(name, INT64, ["batch", "source_len"]) for name in ("input_ids", "attention_mask"))
    options = {slot.name: graph_input(slot) for slot in layout.options}
    imports = {"": OPSET, "com.microsoft": 1}
    graph = ir.Graph([ids, mask, *options.values()], [], nodes=[], opset_imports=imports, name="generate")
    main = Plumbing(graph, Weights(graph))
    zero, one = main.constant(0), main.constant(1)
    values: Values = {"step": zero, "input_ids": ids, "attention_mask": mask, **options}
    if layout.has_beams:
        graph.inputs.append(new_value("num_beams", INT64, []))
        values["slots"] = main.put("slots", "Range", zero, graph.inputs[-1], one)
    values |= main.inline(parts.encoder, values, "encoder.")
    values |= {name: values[slot.name] for name, slot in layout.results.items()}
    count = main.put("sentences", "Squeeze", main.put("batch_size", "Shape", ids, start=0, end=1))
    values["rows"] = main.put("all_rows", "Range", zero, count, one)

    results = [slot._replace(name=name) for name, slot in layout.results.items()]
    carried = [STEP, ROWS, *results, *layout.search_slots, *layout.carried, *layout.constant_rows]
    longest = main.put("longest", "ReduceMax", options["max_new_tokens"], keepdims=0)
    last = main.loop(
        "batches", longest, carried, values, lambda body, given: _turn(body, given, parts), holds_weights=True
    )
    for slot in results:
        if _has_length(slot):  # without the start token
            ends = [main.constant([end]) for end in (1, np.iinfo(np.int64).max, -1)]
            result = main.put(slot.name, "Slice", last[slot.name], *ends)
        else:
            result = main.put(slot.name, "Identity", last[slot.name])
        result.type, result.shape = last[slot.name].type, ir.Shape([slot.axes[axis] for axis in sorted(slot.axes)])
        graph.outputs.append(result)
    return ir.Model(graph, ir_version=10, producer_name="compressor")


def _turn(body: Plumbing, values: Values, parts: Parts) -> tuple[ir.Value, Values]:
    """Fills the body of the outer loop: steps until a part of the batch has finished, which then leaves it.

    The steps end, too, where the first sentence reaches its limit: so no step has to compare limits.
    """
    layout, limits = parts.layout, values["max_new_tokens"]
    nearest = body.put("nearest_limit", "ReduceMin", limits, keepdims=0)
    steps_left = body.put("steps_left", "Sub", nearest, values["step"])
    carried = [STEP, *layout.search_slots, *layout.carried]
    fixed = ("batch", "beams")
    values |= body.loop(
        "steps", steps_left, carried, values, lambda inner, given: _step(inner, given, parts), fixed=fixed
    )
    pad_id = layout.search.generation.pad_id
    written = {name: _write(body, name, values, slot, pad_id) for name, slot in layout.results.items()}
    below_limit = body.put("below_limit", "Less", values["step"], limits)
    going_on = body.put("going_on", "And", values["open"], below_limit)
    open_rows = body.put("open_rows", "Squeeze", body.put("open_at", "NonZero", going_on), body.constant([0]))
    rows = [slot.name for slot in (ROWS, *layout.search_slots, *layout.state, *layout.options) if slot.is_row]
    left = {name: body.put(f"left.{name}", "Gather", values[name], open_rows, axis=0) for name in rows}
    any_open = body.put("any_open", "Greater", body.put("count_open", "Size", open_rows), body.constant(0))
    return any_open, values | written | left


def _write(body: Plumbing, name: str, values: Values, slot: Slot, pad_id: int) -> ir.Value:
    """Writes the outputs of the sentences in the batch into the rows of all sentences."""
    old, new, last = values[name], values[slot.name], body.constant([-1])
    if _has_length(slot):  # it has grown
        was, now = (
            body.put(f"{name}.{when}", "Shape", value, start=-1) for value, when in ((old, "was"), (new, "now"))
        )
        growth = body.put(f"{name}.growth", "Sub", now, was)
        pads = body.put(f"{name}.pads", "Concat", body.constant([0]), growth, axis=0)
        old = body.put(f"{name}.padded", "Pad", old, pads, body.constant(pad_id), last)
    places = body.put(f"{name}.places", "Unsqueeze", values["rows"], last)
    return body.put(f"{name}.written", "ScatterND", old, places, new)


def _step(body: Plumbing, values: Values, parts: Parts) -> tuple[ir.Value, Values]:
    """Fills the body of the inner loop: one step of model and search."""
    outputs = body.inline(parts.step, values, "step.")
    return outputs.pop("going"), {name.removeprefix("next_"): value for name, value in outputs.items()}


def _has_length(slot: Slot) -> bool:
    """Returns whether the tensor grows with the outputs."""
    return "length" in slot.axes.values()
