"""The quality gate: a lossy precision is published if it loses no more than a budget on dev data.

Where a quantized one loses more, a few layers are to blame as a rule: outliers in their activations leave too few of
the 256 steps to everything else. They are found by trying each layer alone in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import onnx_ir as ir
from torch import nn

from compressor.bundle import Quality
from compressor.errors import ExportError
from compressor.exporters.quantization.rewrite import products, weight_key
from compressor.models.base import Seq2SeqModel

LARGEST_SHARE = 0.5
"""Of the layers that may stay in fp32: with more of them, a precision is hardly worth its name."""

WAYS_OUT = "leave it out, raise {quality_budget}, or publish it as it is with {ungated}"

WAYS_OUT_OPTIONS = {"quality_budget": None, "ungated": True}
"""Options that the message names."""

OUTPUT = "output"


def lost(quality: Mapping[str, Quality], precision: str) -> float:
    """What a precision loses against fp32, in the score against references."""
    return score_of(quality["fp32"]) - score_of(quality[precision])


def score_of(quality: Quality) -> float:
    """The score against references, of an export that has some."""
    assert quality.against_references is not None
    return quality.against_references


def layers(model: Seq2SeqModel, graphs: Mapping[str, ir.Model]) -> dict[str, set[bytes]]:
    """Layer (``encoder.0``, ``decoder.0``, ..., ``output``) to the keys of its products' weights."""
    found: dict[str, set[bytes]] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            layer = ".".join(name.split(".")[:2])
            found.setdefault(layer, set()).add(weight_key(module.weight.detach().T.numpy()))
    named = set().union(*found.values())
    found[OUTPUT] = {product.key for graph in graphs.values() for product in products(graph)} - named
    return found


def culprits(
    precision: str, names: Sequence[str], score: Callable[[Collection[str]], float], wanted: float
) -> list[str]:
    """The layers to keep in fp32, as few as one attempt at each can tell.

    Args:
        precision: Which one loses too much.
        names: Of the layers.
        score: The dev score with given layers in fp32; what it measured last is what lies on disk.
        wanted: The score to reach.

    Raises:
        ExportError: half of the layers in fp32 are not enough.
    """
    alone = {name: score([name]) for name in names}
    order = sorted(names, key=lambda name: -alone[name])
    most = max(1, int(LARGEST_SHARE * len(order)))
    for count in range(1, most + 1):
        reached = score(order[:count])
        if reached >= wanted:
            return order[:count]
    raise ExportError(
        f"{precision} scores {reached:.2f} on dev where {wanted:.2f} is wanted, even with {', '.join(order[:most])} in "
        f"fp32: {WAYS_OUT}",
        options=WAYS_OUT_OPTIONS,
    )
