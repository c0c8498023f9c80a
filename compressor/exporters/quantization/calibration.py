"""Ranges of activations: what goes into every product while the fp32 graphs work on calibration sources.

A static scale is found once, at export: it costs nothing at run time, and a sentence's result does not depend on its
neighbours. Products are told apart by their weights, since every graph names its values in its own way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime

from compressor.bundle import DECODER_STEP, ENCODER
from compressor.exporters.quantization.rewrite import Ranges, products
from compressor.runtime import streaming


def calibrate(graphs: dict[str, ir.Model], sources: Sequence[Sequence[int]], limit: int) -> Ranges:
    """Runs the fp32 graphs on sources, one at a time, and notes what goes into every product.

    Args:
        graphs: From ``build_graphs``.
        sources: Token ids.
        limit: The most tokens an output may have.
    """
    encoder, decoder_step = _Observed(graphs[ENCODER]), _Observed(graphs[DECODER_STEP])
    options = {
        "max_new_tokens": np.array([limit]),
        "min_new_tokens": np.array([0]),
        "no_repeat_ngram_size": np.array(0),
    }
    options["prefix_ids"] = np.zeros((1, 0), np.int64)
    for ids in sources:
        source = np.array([ids], np.int64)
        feeds = streaming.first_feeds(encoder, decoder_step, source, np.ones_like(source), options)
        for _ in streaming.greedy_tokens(decoder_step, feeds, limit):
            pass
    return encoder.ranges | decoder_step.ranges


class _Observed:
    """A session of a graph that notes the ranges of its products' inputs; otherwise as ONNX Runtime's own."""

    def __init__(self, model: ir.Model) -> None:
        model = model.clone()
        self.ranges: Ranges = {}
        self._names: list[tuple[bytes, str, str]] = []
        visible = [output.name for output in model.graph.outputs]
        for index, product in enumerate(products(model)):
            low, high = (_reduced(model, operator, product.node, index) for operator in ("ReduceMin", "ReduceMax"))
            self._names.append((product.key, low, high))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)
        self._visible = [output for output in self._session.get_outputs() if output.name in visible]

    def get_inputs(self) -> Any:
        return self._session.get_inputs()

    def get_outputs(self) -> Any:
        return self._visible

    def run(self, names: list[str], feeds: dict[str, Any]) -> list[Any]:
        extra = [name for _, *pair in self._names for name in pair]
        values: list[Any] = self._session.run([*names, *extra], feeds)
        found = iter(map(float, values[len(names) :]))
        for key, *_ in self._names:
            low, high = self.ranges.get(key, (0.0, 0.0))
            self.ranges[key] = (min(low, next(found)), max(high, next(found)))
        return values[: len(names)]


def _reduced(model: ir.Model, operator: str, product: ir.Node, index: int) -> str:
    """Adds an output to a graph: the least or greatest of what goes into a product. Returns its name."""
    node = ir.node(operator, [product.inputs[0]], {"keepdims": 0})
    node.name = node.outputs[0].name = f"{operator}.{index}"
    node.outputs[0].type, node.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([])
    assert product.graph is not None
    product.graph.append(node)
    model.graph.outputs.append(node.outputs[0])
    return str(node.name)
