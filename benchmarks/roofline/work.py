"""Counts the multiply-adds and bytes of a search from the model's sizes, and bounds its time by a core's rates.

Counted are matmuls with weights, attention, and the reading of weights, keys and values; not layer norms, quantization,
softmax, the choice of tokens, activations between operators, and the calling of operators.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.roofline.rates import Rates

WEIGHT_BYTES = {"int8": 1, "fp32": 4}
CACHE_BYTES = 4
"""Keys, values and attention are fp32 in every precision."""


class Point(NamedTuple):
    """A search: the sizes of a model (fields of ``random_model.Shape``), and what it is called with."""

    encoder_layers: int
    decoder_layers: int
    d_model: int
    ffn: int
    heads: int
    vocab_size: int
    source_tokens: int
    target_tokens: int
    batch_size: int
    num_beams: int


class Work(NamedTuple):
    """Work of the encoder in one call, or of one step of the search.

    Attributes:
        weights: Weights that are read, each once.
        matmuls: Multiply-adds with weights.
        attention: Multiply-adds of queries with keys, and of attention weights with values.
        cache: Bytes of keys and values of earlier steps and of the source that are read.
    """

    weights: int
    matmuls: int
    attention: int
    cache: int


def encoder(point: Point) -> Work:
    """Encoder, and keys and values of cross-attention: L (4d² + 2df) + M 2d² weights for L and M layers."""
    d, tokens = point.d_model, point.batch_size * point.source_tokens
    layer, cross = 4 * d * d + 2 * d * point.ffn, 2 * d * d
    weights = point.encoder_layers * layer + point.decoder_layers * cross
    return Work(weights, tokens * weights, point.encoder_layers * 2 * d * tokens * point.source_tokens, 0)


def steps(point: Point) -> Iterator[Work]:
    """Each step in turn: M (6d² + 2df) + dV weights.

    A beam attends to its own earlier tokens and to the source. The exported search masks entries of other beams in a
    shared cache: multiply-adds with those are not needed, and not counted.
    """
    d, layers = point.d_model, point.decoder_layers
    weights = layers * (6 * d * d + 2 * d * point.ffn) + d * point.vocab_size
    rows = point.batch_size * point.num_beams
    for earlier in range(point.target_tokens):
        attention = layers * 2 * d * rows * (earlier + 1 + point.source_tokens)
        entries = point.batch_size * (point.source_tokens + point.num_beams * earlier)
        yield Work(weights, rows * weights, attention, layers * 2 * d * entries * CACHE_BYTES)


def roofline(point: Point, precision: str, rates: Rates) -> tuple[float, str]:
    """The least seconds a core can take, and what takes longer of them: "reading" or "multiplying".

    Of encoder and steps, each counts the longer of its reading and its multiplying. A step's weights are read again by
    the next step, so their rate is that of a buffer of the step's size; the encoder's are read once a call, after
    everything else that the call reads.
    """
    work = [encoder(point), *steps(point)]
    sizes = [one.weights * WEIGHT_BYTES[precision] + one.cache for one in work]
    buffers = [sizes[0] + sizes[-1], *sizes[1:]]
    reading = list(map(rates.read_s, sizes, buffers))
    multiplying = [rates.multiply_s(one.matmuls, precision) + rates.multiply_s(one.attention, "fp32") for one in work]
    return sum(map(max, reading, multiplying)), "reading" if sum(reading) > sum(multiplying) else "multiplying"


def terms(point: Point) -> dict[str, float]:
    """How often a search does each thing that its time is fitted to; what nothing else explains is in "call"."""
    first, decoding = encoder(point), list(steps(point))
    beam_steps = len(decoding) * (point.num_beams > 1)
    return {
        "call": 1,
        "encoder layer": point.encoder_layers,
        "encoder multiply-add": first.matmuls,
        "step": len(decoding),
        "decoder layer of a step": len(decoding) * point.decoder_layers,
        "weight of a step": sum(step.weights for step in decoding),
        "step multiply-add": sum(step.matmuls for step in decoding),
        "attention multiply-add": first.attention + sum(step.attention for step in decoding),
        "step of beam search": beam_steps,
        "column of a beam": beam_steps * point.batch_size * point.num_beams * point.vocab_size,
    }
