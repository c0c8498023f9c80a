"""Quantized precisions (int8, int4, mixed): which format each matmul gets, and the graphs on disk."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from compressor.bundle_records import MatmulFormat
from compressor.exporters.graphs.weights import write_graphs
from compressor.exporters.quantization import kernel_choice
from compressor.exporters.quantization.calibration import calibrate
from compressor.exporters.quantization.quality_gate import layer_weights
from compressor.exporters.quantization.rewrite import check_quantized, quantize
from compressor.models.weights import Run

QUANTIZED = ("int8", "int4", "mixed")
"""Names of the quantized precisions."""

CALIBRATION_SOURCES = 128
"""How many dev sources calibration uses at most."""


class QuantizationInputs:
    """Graphs, activation ranges and layers of one export, from which every quantized precision is made."""

    def __init__(
        self,
        run: Run,
        graphs: dict[str, ir.Model],
        shortlisted: dict[str, ir.Model],
        sources: Sequence[Sequence[int]],
        folder: Path,
    ) -> None:
        """Calibrates the graphs.

        Args:
            run: The exported model.
            graphs: Its fp32 graphs, by name.
            shortlisted: The same graphs with a shortlist; empty without one.
            sources: Token ids of the calibration sources.
            folder: Parent of the folders of the precisions.
        """
        self.vocab_size, self.folder = run.model.config.vocab_size, folder
        self.graphs, self.shortlisted = graphs, shortlisted
        limit = min(run.generation.max_new_tokens, run.model.config.max_length)
        self.ranges = calibrate(graphs, sources, limit)
        self.layers = layer_weights(run.model, graphs)
        self.source_tokens = max(1, round(sum(map(len, sources)) / len(sources)))


@dataclass(frozen=True)
class QuantizationPlan:
    """The format of each matmul of a precision, by key; a matmul that is named nowhere gets the static format."""

    bits: Mapping[bytes, int]
    """Matmuls in the block format, and the bits of their weights."""
    fp32_weights: frozenset[bytes] = frozenset()
    """Matmuls that stay in fp32."""
    batch_size: int | None = None
    """Sentences of the batch that the formats were chosen for (mixed only)."""
    matmul_formats: tuple[MatmulFormat, ...] | None = None
    """Measured times behind the choice (mixed only)."""


def plan_precision(name: str, inputs: QuantizationInputs, batch_size: int) -> QuantizationPlan:
    """Returns the formats of the matmuls of one of ``QUANTIZED``.

    Args:
        name: The precision.
        inputs: What the precision is made from.
        batch_size: Sentences of the batch that mixed is optimized for.
    """
    if name == "int8":
        return QuantizationPlan({})
    if name == "int4":
        return QuantizationPlan(dict.fromkeys((key for keys in inputs.layers.values() for key in keys), 4))
    choice = kernel_choice.choose_formats(inputs.graphs, batch_size, inputs.source_tokens)
    bits = dict.fromkeys(choice.keys(kernel_choice.BLOCKS), kernel_choice.BITS)
    return QuantizationPlan(bits, frozenset(choice.keys(kernel_choice.FP32)), batch_size, choice.matmul_formats)


class QuantizedPrecision:
    """One of ``QUANTIZED`` on disk, with or without the graphs that have a shortlist."""

    def __init__(
        self, name: str, inputs: QuantizationInputs, plan: QuantizationPlan, shortlisted: bool = False
    ) -> None:
        self.name, self.inputs, self.plan, self.shortlisted = name, inputs, plan, shortlisted
        self.fp32_layers: tuple[str, ...] = ()

    def write(self, fp32_layers: Collection[str] = ()) -> None:
        """Writes the graphs with these layers in fp32, in place of those on disk.

        Raises:
            ExportError: a matmul is in fp32 that should not be.
        """
        inputs, self.fp32_layers = self.inputs, tuple(fp32_layers)
        fp32_weights = self.plan.fp32_weights.union(*(inputs.layers[name] for name in fp32_layers))
        folder = inputs.folder / self.name
        shutil.rmtree(folder, ignore_errors=True)  # open sessions keep the old files
        sources = inputs.graphs | (inputs.shortlisted if self.shortlisted else {})
        graphs = {name: model.clone() for name, model in sources.items()}
        for model in graphs.values():
            quantize(model, inputs.vocab_size, inputs.ranges, fp32_weights, self.plan.bits)
        for path in write_graphs(graphs, folder).values():
            check_quantized(path, fp32_weights)
