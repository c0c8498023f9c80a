"""What a search has to do at the least: multiply-adds and bytes, counted from the model's sizes.

Counted are the products with weights, attention, and the reading of weights, keys and values. Not counted is what grows
with neither of these: layer norms, rounding to 8 bits, softmax, the choice of tokens, activations on their way from one
operator to the next, and the calling of operators.

d = width of the model, f = of its feed-forward layers, V = vocabulary, S = source tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.floors import Rates

WEIGHT_BYTES = {"int8": 1, "fp32": 4}
CACHE_BYTES = 4
"""Keys and values, and attention itself, are in fp32 in every precision."""


class Point(NamedTuple):
    """A search: a model's shape (the fields of ``shapes.Shape``), and what it is called with."""

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
    """Of the encoder in one call, or of one step of the search."""

    weights: int
    """Weights that are read, each once."""
    products: int
    """Multiply-adds with weights."""
    attention: int
    """Multiply-adds of queries with keys, and of their shares with values."""
    cache: int
    """Keys and values of earlier steps and of the source that are read, bytes."""

    def bytes(self, precision: str) -> int:
        """Read in all."""
        return self.weights * WEIGHT_BYTES[precision] + self.cache


def encoder(point: Point) -> Work:
    """The encoder and the keys and values of cross-attention: L (4d² + 2df) + M 2d² weights for L and M layers."""
    d, tokens = point.d_model, point.batch_size * point.source_tokens
    layer, cross = 4 * d * d + 2 * d * point.ffn, 2 * d * d
    weights = point.encoder_layers * layer + point.decoder_layers * cross
    attention = point.encoder_layers * 2 * d * tokens * point.source_tokens
    return Work(weights, tokens * weights, attention, 0)


def steps(point: Point) -> Iterator[Work]:
    """Each step in turn: M (6d² + 2df) + dV weights. A beam looks at its own tokens so far and at the source.

    The exported search shares a cache among the beams of a sentence and masks the others' entries: what it multiplies
    with those is not needed, and not counted.
    """
    d, layers = point.d_model, point.decoder_layers
    weights = layers * (6 * d * d + 2 * d * point.ffn) + d * point.vocab_size
    rows = point.batch_size * point.num_beams
    for earlier in range(point.target_tokens):
        attention = layers * 2 * d * rows * (earlier + 1 + point.source_tokens)
        entries = point.batch_size * (point.source_tokens + point.num_beams * earlier)
        yield Work(weights, rows * weights, attention, layers * 2 * d * entries * CACHE_BYTES)


class Floor(NamedTuple):
    """The least seconds that a processor of measured rates could take."""

    seconds: float
    """Of encoder and steps, each of which takes what is longer, its reading or its multiplying."""
    reading: float
    """Of the reading alone."""
    multiplying: float
    """Of the multiplying alone."""
    from_memory: float
    """As ``seconds``, were everything read from memory and not from the caches."""


def floor(point: Point, precision: str, rates: Rates) -> Floor:
    """The floor of a search.

    What a step reads is read again by the next one, so its rate is that of a buffer of this size; the encoder's weights
    come around once a call, after everything else that the call reads.
    """
    first, others = encoder(point), list(steps(point))
    everything = first.bytes(precision) + others[-1].bytes(precision)
    parts = [(first, everything), *((step, step.bytes(precision)) for step in others)]
    total = Floor(0.0, 0.0, 0.0, 0.0)
    for work, size in parts:
        near, far = (work.bytes(precision) / rate for rate in (rates.reading(size), rates.memory))
        busy = work.products / rates.products[precision] + work.attention / rates.products["fp32"]
        total = Floor(*map(sum, zip(total, (max(near, busy), near, busy, max(far, busy)), strict=True)))
    return total


def terms(point: Point) -> dict[str, float]:
    """What a search's time is explained by: how often each thing is done.

    One of a call is whatever does not grow. A layer of the encoder has its operators to call and its weights to read,
    which nothing tells apart. A weight of a step is read once, however many rows are multiplied with it.
    """
    first, others = encoder(point), list(steps(point))
    beams = point.num_beams > 1
    return {
        "call": 1,
        "encoder layer": point.encoder_layers,
        "encoder multiply-add": first.products,
        "step": len(others),
        "decoder layer of a step": len(others) * point.decoder_layers,
        "weight of a step": sum(step.weights for step in others),
        "step multiply-add": sum(step.products for step in others),
        "attention multiply-add": first.attention + sum(step.attention for step in others),
        "step of beam search": len(others) * beams,
        "column of a beam": len(others) * beams * point.batch_size * point.num_beams * point.vocab_size,
    }
