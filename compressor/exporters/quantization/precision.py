"""A quantized precision of a model's graphs: written once, and again with layers in fp32 where it loses too much."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from compressor.bundle import ProductForm
from compressor.exporters.checks.dev_set import DevSet, spread
from compressor.exporters.graphs.weights import write_graphs
from compressor.exporters.quantization import kernel_choice as mixing
from compressor.exporters.quantization import quality_gate as gate
from compressor.exporters.quantization import rewrite as quantize
from compressor.exporters.quantization.calibration import calibrate
from compressor.models.weights import Run

CALIBRATION_SOURCES = 128

QUANTIZED = ("int8", "int4", "mixed")


class Material:
    """What all quantized precisions of an export are made from; ``shortlisted``: the same graphs with a shortlist."""

    def __init__(
        self, run: Run, graphs: dict[str, ir.Model], shortlisted: dict[str, ir.Model], dev: DevSet, folder: Path
    ) -> None:
        self.vocab_size, self.folder = run.model.config.vocab_size, folder
        self.graphs, self.shortlisted = graphs, shortlisted
        limit = min(run.generation.max_new_tokens, run.model.config.max_length)
        self.ranges = calibrate(graphs, [dev.ids[index] for index in spread(len(dev.ids), CALIBRATION_SOURCES)], limit)
        self.layers = gate.layers(run.model, graphs)
        self.source_tokens = max(1, round(sum(map(len, dev.ids)) / len(dev.ids)))


@dataclass(frozen=True)
class Plan:
    """Which products have which form; those that are named nowhere have static scales."""

    bits: Mapping[bytes, int]
    """Keys of those in blocks of so many bits."""
    in_fp32: frozenset[bytes] = frozenset()
    batch_size: int | None = None
    products: tuple[ProductForm, ...] | None = None


def plan(name: str, material: Material, batch_size: int) -> Plan:
    """The forms of a precision; ``batch_size`` is the one that mixed is meant for."""
    keys = {key for keys in material.layers.values() for key in keys}
    if name == "int8":
        return Plan({})
    if name == "int4":
        return Plan(dict.fromkeys(keys, 4))
    mix = mixing.choose(material.graphs, batch_size, material.source_tokens)
    blocks, fp32 = ({key for key, form in mix.forms.items() if form == which} for which in (mixing.BLOCKS, mixing.FP32))
    return Plan(dict.fromkeys(blocks, mixing.BITS), frozenset(fp32), batch_size, mix.products)


class Quantized:
    """One of ``QUANTIZED``, on disk, with the graphs of its shortlist or without."""

    def __init__(self, name: str, material: Material, plan: Plan, shortlisted: bool = False) -> None:
        self.name, self.material, self.plan, self.shortlisted = name, material, plan, shortlisted
        self.float_layers: tuple[str, ...] = ()

    def write(self, float_layers: Collection[str] = ()) -> None:
        """Replaces the form on disk by one in which these layers are in fp32.

        Raises:
            ExportError: a product is in fp32 that is not meant to be.
        """
        material, self.float_layers = self.material, tuple(float_layers)
        kept = self.plan.in_fp32.union(*(material.layers[name] for name in float_layers))
        folder = material.folder / self.name
        shutil.rmtree(folder, ignore_errors=True)  # open sessions keep the old file
        wanted = material.graphs | (material.shortlisted if self.shortlisted else {})
        graphs = {name: model.clone() for name, model in wanted.items()}
        for model in graphs.values():
            quantize.quantize(model, material.vocab_size, material.ranges, kept, self.plan.bits)
        for path in write_graphs(graphs, folder).values():
            quantize.check_quantized(path, kept)
