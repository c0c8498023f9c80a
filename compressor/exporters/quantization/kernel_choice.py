"""mixed: each product in the form that is fastest on this machine, for the batch that a bundle is meant for.

The choice is made once, at export, by timing products of each size alone in ONNX Runtime. It never follows the batch at
run time: a text's output would depend on its neighbours. Candidates lose next to nothing (fp32, 8 bits with static
scales, 8 bits in blocks); 4 bits are none.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
import onnxruntime

from compressor.bundle import DECODER_STEP, ENCODER, ProductForm
from compressor.exporters.quantization.rewrite import products, quantize

FP32, STATIC, BLOCKS = "fp32", "int8", "blocks"
FORMS = (FP32, STATIC, BLOCKS)
BITS = 8

CLOSE = 1.03
"""Times that are no further apart are a matter of chance: static scales it is then, so that exports repeat."""

_ROUNDS, _ROUND_SECONDS = 60, 0.001
"""Forms take turns, so that a busy machine is unfair to none. A turn is shorter than what a scheduler gives a process
at a time: the least of many is one that nothing else interrupted."""

_WEIGHTS = 1 << 20
"""Of a timed graph, about: as many products as that makes."""

_FLOAT = ir.TensorType(ir.DataType.FLOAT)


class Shape(NamedTuple):
    """Of a product: what goes in is [rows, d], what comes out [rows, columns]."""

    rows: int
    d: int
    columns: int


Clock = Callable[[Shape], Mapping[str, float]]
"""Microseconds of a product in each of ``FORMS``."""


class Mix(NamedTuple):
    """Form of each product, by the key of its weight, and the reasons."""

    forms: dict[bytes, str]
    products: tuple[ProductForm, ...]


def choose(graphs: Mapping[str, ir.Model], batch_size: int, source_tokens: int, clock: Clock | None = None) -> Mix:
    """Times products of each size, and takes the fastest form.

    Args:
        graphs: From ``build_graphs``; all products are in the encoder or in the step.
        batch_size: Sentences of a batch: rows of a product in a step of greedy search.
        source_tokens: Of a typical source; the encoder's products have a row for each token.
        clock: Stands in for ``time_forms``.
    """
    rows = {ENCODER: batch_size * source_tokens, DECODER_STEP: batch_size}
    shapes: dict[bytes, tuple[str, Shape]] = {}
    for name in (ENCODER, DECODER_STEP):
        for product in products(graphs[name]):
            shapes.setdefault(product.key, (name, Shape(rows[name], *product.array.shape)))
    counts = Counter(shapes.values())
    times = {shape: dict((clock or time_forms)(shape)) for shape in dict.fromkeys(shape for _, shape in counts)}
    fastest = {shape: _fastest(found) for shape, found in times.items()}
    return Mix(
        {key: fastest[shape] for key, (_, shape) in shapes.items()},
        tuple(
            ProductForm(graph=name, **shape._asdict(), count=count, form=fastest[shape], microseconds=times[shape])
            for (name, shape), count in counts.items()
        ),
    )


def _fastest(times: Mapping[str, float]) -> str:
    best = min(FORMS, key=times.__getitem__)
    return STATIC if times[STATIC] <= CLOSE * times[best] else best


def time_forms(shape: Shape) -> dict[str, float]:
    """The least time of a product in each form, on one thread, the forms taking turns."""
    entering = np.random.default_rng(0).uniform(-4, 4, size=(1, shape.rows, shape.d)).astype(np.float32)
    sessions = {form: _session(shape, form) for form in FORMS}
    calls = {form: max(1, int(_ROUND_SECONDS / _seconds(session, entering, 3))) for form, session in sessions.items()}
    least = dict.fromkeys(FORMS, float("inf"))
    for _ in range(_ROUNDS):
        for form, session in sessions.items():
            least[form] = min(least[form], _seconds(session, entering, calls[form]))
    return {form: round(seconds * 1e6 / _copies(shape), 2) for form, seconds in least.items()}


def _seconds(session: Any, entering: np.ndarray[Any, Any], calls: int) -> float:
    """Of one call, as the mean of several."""
    start = time.perf_counter()
    for _ in range(calls):
        session.run(None, {"x": entering})
    return (time.perf_counter() - start) / calls


def _session(shape: Shape, form: str) -> Any:
    """ONNX Runtime with products in a form, whose activations have ranges of their own: nothing is computed once."""
    model = product_model(shape.d, shape.columns, _copies(shape))
    keys = [product.key for product in products(model)]
    ranges = {key: (-4.0, 4.0 + index / 16) for index, key in enumerate(keys)}
    quantize(model, 0, ranges, keys if form == FP32 else (), dict.fromkeys(keys, BITS) if form == BLOCKS else {})
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)


def _copies(shape: Shape) -> int:
    """Products of a timed graph: many of small ones, next to which a call of ONNX Runtime itself costs little."""
    return max(1, min(16, _WEIGHTS // (shape.d * shape.columns)))


def product_model(d: int, columns: int, copies: int = 1) -> ir.Model:
    """``y`` = ``x`` W + b, [batch, length, d] -> [batch, length, columns], with a random W and b in fp32.

    With copies: as many ``y0``, ``y1``, ... from one ``x``, each with a W and a b of its own.
    """
    entry = ir.Value(name="x", type=_FLOAT, shape=ir.Shape(["batch", "length", d]))
    graph = ir.Graph([entry], [], nodes=[], opset_imports={"": 23}, name="product")
    for index in range(copies):
        chance, mark = np.random.default_rng(index), str(index) if copies > 1 else ""
        weight, bias = (
            ir.Value(name=name, type=_FLOAT, shape=ir.Shape(array.shape), const_value=ir.Tensor(array, name=name))
            for name, array in (
                (f"weight{mark}", chance.normal(size=(d, columns)).astype(np.float32)),
                (f"bias{mark}", chance.normal(size=columns).astype(np.float32)),
            )
        )
        graph.register_initializer(weight)
        graph.register_initializer(bias)
        product = ir.node("MatMul", [entry, weight], name=f"product{mark}")
        total = ir.node("Add", [product.outputs[0], bias], name=f"total{mark}")
        product.outputs[0].name, total.outputs[0].name = f"xW{mark}", f"y{mark}"
        total.outputs[0].type, total.outputs[0].shape = _FLOAT, ir.Shape(["batch", "length", columns])
        graph.extend([product, total])
        graph.outputs.append(total.outputs[0])
    return ir.Model(graph, ir_version=10)
