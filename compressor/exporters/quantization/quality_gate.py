"""The quality gate: a lossy precision is published only if it loses no more than a budget on dev data.

When a quantized precision loses more, usually a few layers cause it: outliers in their activations leave too few of the
256 levels for all other values. The gate finds these layers by trying each one alone in fp32, and keeps them in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import onnx_ir as ir
from torch import nn

from compressor.bundle_records import Quality
from compressor.errors import ExportError
from compressor.exporters.quantization.rewrite import weight_key, weight_matmuls
from compressor.models.base import Seq2SeqModel

MAX_FP32_SHARE = 0.5
"""Largest share of the layers that may stay in fp32 in a quantized precision."""

REMEDIES = "leave it out, raise {quality_budget}, or publish it as it is with {ungated}"
REMEDY_OPTIONS = {"quality_budget": None, "ungated": True}
"""What to do about a precision that loses more than the budget, and the options that the text names."""

METRICS = {"bleu": "BLEU", "rouge_l": "ROUGE-L"}

OUTPUT = "output"
"""Name of the output layer in lists of layers."""


def score_loss(quality: Mapping[str, Quality], precision: str) -> float:
    """Points that a precision loses against fp32, in the score against references."""
    return reference_score(quality["fp32"]) - reference_score(quality[precision])


def reference_score(quality: Quality) -> float:
    """The score against references, which must have been measured."""
    assert quality.against_references is not None
    return quality.against_references


def metric_name(quality: Quality) -> str:
    """How messages call the metric of a score."""
    return METRICS[quality.metric]


def layer_weights(model: Seq2SeqModel, graphs: Mapping[str, ir.Model]) -> dict[str, set[bytes]]:
    """Maps each layer (``encoder.0``, ``decoder.0``, ..., ``output``) to the keys of its matmuls.

    Args:
        model: The exported model; its linear modules name the layers.
        graphs: Its fp32 graphs. Their matmuls that belong to no linear module make up the output layer.
    """
    weights: dict[str, set[bytes]] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            layer = ".".join(name.split(".")[:2])
            weights.setdefault(layer, set()).add(weight_key(module.weight.detach().T.numpy()))
    linear = set().union(*weights.values())
    weights[OUTPUT] = {matmul.key for graph in graphs.values() for matmul in weight_matmuls(graph)} - linear
    return weights


def choose_fp32_layers(
    precision: str,
    names: Sequence[str],
    score: Callable[[Collection[str]], float],
    target: float,
    metric: str = METRICS["bleu"],
) -> list[str]:
    """Chooses the layers to keep in fp32 so that a precision reaches a dev score.

    Each layer is tried alone; then layers are added, the most helpful first, until the score is reached.

    Args:
        precision: Name of the precision, for messages.
        names: Names of all layers.
        score: Writes the precision with the given layers in fp32 and returns its dev score. The last call is made with
            the layers that are returned.
        target: The score to reach.
        metric: Name of the score, for messages.

    Raises:
        ExportError: ``MAX_FP32_SHARE`` of the layers in fp32 do not reach it.
    """
    alone = {name: score([name]) for name in names}
    order = sorted(names, key=lambda name: -alone[name])
    limit = max(1, int(MAX_FP32_SHARE * len(order)))
    for count in range(1, limit + 1):
        reached = score(order[:count])
        if reached >= target:
            return order[:count]
    raise ExportError(
        f"{precision} scores {metric} {reached:.2f} on dev where {target:.2f} is wanted, even with "
        f"{', '.join(order[:limit])} in fp32: {REMEDIES}",
        options=REMEDY_OPTIONS,
    )
