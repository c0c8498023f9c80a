"""Calibration: records the range of the activations of every matmul while the fp32 graphs decode sample sources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from compressor.bundle import DECODER_STEP, ENCODER
from compressor.exporters.quantization.rewrite import Ranges, weight_matmuls
from compressor.runtime import streaming
from compressor.runtime.session import open_session


def calibrate(graphs: dict[str, ir.Model], sources: Sequence[Sequence[int]], limit: int) -> Ranges:
    """Decodes sources greedily with the fp32 graphs, one at a time, and returns the ranges of all activations.

    Args:
        graphs: The graphs ``encoder`` and ``decoder_step`` from ``build_graphs``, by name.
        sources: Token ids of each source.
        limit: Maximum number of tokens of an output.
    """
    encoder, decoder_step = _RangeSession(graphs[ENCODER]), _RangeSession(graphs[DECODER_STEP])
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


class _RangeSession:
    """An inference session that also records the minimum and maximum of the activations of every matmul.

    It has the methods of an ONNX Runtime session that ``streaming`` calls; the added outputs are hidden from them.
    """

    def __init__(self, model: ir.Model) -> None:
        model = model.clone()
        self.ranges: Ranges = {}
        self._range_outputs: list[tuple[bytes, str, str]] = []
        own_outputs = [output.name for output in model.graph.outputs]
        for index, matmul in enumerate(weight_matmuls(model)):
            low, high = (_add_reduced_output(model, name, matmul.node, index) for name in ("ReduceMin", "ReduceMax"))
            self._range_outputs.append((matmul.key, low, high))
        self._session = open_session(ir.to_proto(model).SerializeToString())
        self._outputs = [output for output in self._session.get_outputs() if output.name in own_outputs]

    def get_inputs(self) -> Any:
        """Inputs of the graph."""
        return self._session.get_inputs()

    def get_outputs(self) -> Any:
        """Outputs of the graph, without those that were added."""
        return self._outputs

    def run(self, names: list[str], feeds: dict[str, Any]) -> list[Any]:
        """Runs the graph, widens ``ranges``, and returns the outputs called ``names``."""
        added = [name for _, *pair in self._range_outputs for name in pair]
        values: list[Any] = self._session.run([*names, *added], feeds)
        limits = iter(map(float, values[len(names) :]))
        for key, *_ in self._range_outputs:
            low, high = self.ranges.get(key, (0.0, 0.0))
            self.ranges[key] = (min(low, next(limits)), max(high, next(limits)))
        return values[: len(names)]


def _add_reduced_output(model: ir.Model, operator: str, matmul: ir.Node, index: int) -> str:
    """Adds ``operator`` (ReduceMin, ReduceMax) over a matmul's activations as an output of the graph, named uniquely.

    Returns the name of the output.
    """
    node = ir.node(operator, [matmul.inputs[0]], {"keepdims": 0})
    node.name = node.outputs[0].name = f"{operator}.{index}"
    node.outputs[0].type, node.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([])
    assert matmul.graph is not None
    matmul.graph.append(node)
    model.graph.outputs.append(node.outputs[0])
    return str(node.name)
