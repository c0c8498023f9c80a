"""Kernel choice for the mixed precision: each matmul gets the format that is fastest on this machine.

The choice is made once, at export, for one batch size, by timing matmuls of each shape alone in ONNX Runtime. It does
not follow the batch at run time: then the output of a text would depend on its neighbours. The candidates lose almost
no quality: fp32, static int8 and 8-bit blocks. 4-bit blocks are no candidate.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from compressor.bundle import DECODER_STEP, ENCODER
from compressor.bundle_records import MatmulFormat
from compressor.exporters.quantization.rewrite import quantize, weight_matmuls
from compressor.runtime.session import open_session

FP32, STATIC, BLOCKS = "fp32", "int8", "blocks"
FORMATS = (FP32, STATIC, BLOCKS)
BITS = 8
"""Bits of the weights in the block format."""

TIE_RATIO = 1.03
"""Times within this ratio count as equal, and the static format is taken, so that exports are reproducible."""

_ROUNDS, _ROUND_SECONDS = 60, 0.001
"""Formats are timed in turns, so that other load on the machine affects all alike. A turn is shorter than the time
slice of a process, so that the fastest of many turns was not interrupted."""

_TARGET_WEIGHTS = 1 << 20
"""Target weight count per timed graph; small matmuls are replicated."""

_FLOAT = ir.TensorType(ir.DataType.FLOAT)


class MatmulShape(NamedTuple):
    """Shape of a matmul: input [rows, d], output [rows, columns]."""

    rows: int
    d: int
    columns: int


Timer = Callable[[MatmulShape], Mapping[str, float]]
"""Returns the microseconds of a matmul in each of ``FORMATS``."""


class FormatChoice(NamedTuple):
    """The chosen format of each matmul, by key, and the measured times of each shape."""

    formats: dict[bytes, str]
    matmul_formats: tuple[MatmulFormat, ...]

    def keys(self, chosen: str) -> set[bytes]:
        """Keys of the matmuls that get a format."""
        return {key for key, name in self.formats.items() if name == chosen}


def choose_formats(
    graphs: Mapping[str, ir.Model], batch_size: int, source_tokens: int, timer: Timer | None = None
) -> FormatChoice:
    """Times matmuls of each shape in the graphs and chooses the fastest format of each.

    Args:
        graphs: From ``build_graphs``; ``encoder`` and ``decoder_step`` hold all matmuls between them.
        batch_size: Sentences of a batch: rows of a matmul in a step of greedy search.
        source_tokens: Length of a typical source; the encoder's matmuls have a row for each token.
        timer: Measures a shape; by default ``time_formats``.
    """
    rows = {ENCODER: batch_size * source_tokens, DECODER_STEP: batch_size}
    shapes: dict[bytes, tuple[str, MatmulShape]] = {}
    for name in (ENCODER, DECODER_STEP):
        for matmul in weight_matmuls(graphs[name]):
            shapes.setdefault(matmul.key, (name, MatmulShape(rows[name], *matmul.array.shape)))
    counts = Counter(shapes.values())
    times = {shape: dict((timer or time_formats)(shape)) for shape in dict.fromkeys(shape for _, shape in counts)}
    fastest = {shape: _fastest(microseconds) for shape, microseconds in times.items()}
    return FormatChoice(
        {key: fastest[shape] for key, (_, shape) in shapes.items()},
        tuple(
            MatmulFormat(graph=name, **shape._asdict(), count=count, format=fastest[shape], microseconds=times[shape])
            for (name, shape), count in counts.items()
        ),
    )


def _fastest(microseconds: Mapping[str, float]) -> str:
    """The format with the least time; the static format if it is within ``TIE_RATIO`` of that."""
    best = min(FORMATS, key=microseconds.__getitem__)
    return STATIC if microseconds[STATIC] <= TIE_RATIO * microseconds[best] else best


def time_formats(shape: MatmulShape) -> dict[str, float]:
    """Measures the least time of a matmul in each format, in microseconds, on one thread."""
    activations = np.random.default_rng(0).uniform(-4, 4, size=(1, shape.rows, shape.d)).astype(np.float32)
    sessions = {name: _timed_session(shape, name) for name in FORMATS}
    calls = {
        name: max(1, int(_ROUND_SECONDS / _call_seconds(session, activations, 3))) for name, session in sessions.items()
    }
    least = dict.fromkeys(FORMATS, float("inf"))
    for _ in range(_ROUNDS):
        for name, session in sessions.items():
            least[name] = min(least[name], _call_seconds(session, activations, calls[name]))
    return {name: round(seconds * 1e6 / _replicas(shape), 2) for name, seconds in least.items()}


def _call_seconds(session: Any, activations: np.ndarray[Any, Any], calls: int) -> float:
    """Mean seconds of a call over several."""
    start = time.perf_counter()
    for _ in range(calls):
        session.run(None, {"x": activations})
    return (time.perf_counter() - start) / calls


def _timed_session(shape: MatmulShape, format_name: str) -> Any:
    """Opens a graph of matmuls in one format; each has its own range, so that no two share a rounded input."""
    model = matmul_model(shape.d, shape.columns, _replicas(shape))
    keys = [matmul.key for matmul in weight_matmuls(model)]
    ranges = {key: (-4.0, 4.0 + index / 16) for index, key in enumerate(keys)}
    fp32_weights = keys if format_name == FP32 else ()
    quantize(model, 0, ranges, fp32_weights, dict.fromkeys(keys, BITS) if format_name == BLOCKS else {})
    return open_session(ir.to_proto(model).SerializeToString())


def _replicas(shape: MatmulShape) -> int:
    """Number of matmuls in a timed graph, so many that the overhead of a call of ONNX Runtime is small beside them."""
    return max(1, min(16, _TARGET_WEIGHTS // (shape.d * shape.columns)))


def matmul_model(d: int, columns: int, replicas: int = 1) -> ir.Model:
    """A graph that computes ``y`` = ``x`` W + b, with random W and b in fp32.

    Args:
        d: Width of ``x`` [batch, length, d].
        columns: Width of ``y`` [batch, length, columns].
        replicas: If more than 1, the outputs are ``y0``, ``y1``, ..., each with its own W and b.
    """
    x = ir.Value(name="x", type=_FLOAT, shape=ir.Shape(["batch", "length", d]))
    graph = ir.Graph([x], [], nodes=[], opset_imports={"": 23}, name="matmul")
    for index in range(replicas):
        rng, suffix = np.random.default_rng(index), str(index) if replicas > 1 else ""
        weight, bias = (
            ir.Value(name=name, type=_FLOAT, shape=ir.Shape(array.shape), const_value=ir.Tensor(array, name=name))
            for name, array in (
                (f"weight{suffix}", rng.normal(size=(d, columns)).astype(np.float32)),
                (f"bias{suffix}", rng.normal(size=columns).astype(np.float32)),
            )
        )
        graph.register_initializer(weight)
        graph.register_initializer(bias)
        matmul = ir.node("MatMul", [x, weight], name=f"matmul{suffix}")
        total = ir.node("Add", [matmul.outputs[0], bias], name=f"total{suffix}")
        matmul.outputs[0].name, total.outputs[0].name = f"xW{suffix}", f"y{suffix}"
        total.outputs[0].type, total.outputs[0].shape = _FLOAT, ir.Shape(["batch", "length", columns])
        graph.extend([matmul, total])
        graph.outputs.append(total.outputs[0])
    return ir.Model(graph, ir_version=10)
