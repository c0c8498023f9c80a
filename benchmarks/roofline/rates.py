"""Measures what one core can do at best: bytes read a second by size of the buffer, and multiply-adds a second."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from onnx import numpy_helper, parser

from benchmarks.measure.timing import repeat
from compressor.runtime.session import open_session

MB, GIGA = 1 << 20, 1e9
MEGABYTES = (1, 2, 4, 8, 16, 32, 64, 256)
"""Sizes of the buffers that are read; the last is far larger than the caches."""
MATMULS = ((128, 512, 512), (256, 1024, 1024), (512, 1024, 1024))
"""Rows, inputs and outputs of the timed matmuls; the fastest counts."""
GRAPHS = {
    "int8": "matmul (uint8[N, K] values) => (int32[N, M] result) { result = MatMulInteger(values, weight, zero) }",
    "fp32": "matmul (float[N, K] values) => (float[N, M] result) { result = MatMul(values, weight) }",
}


class Rates(NamedTuple):
    """A core's rates, in billions: buffer size in MB (2²⁰ bytes) to bytes/s; precision to multiply-adds/s."""

    gb_per_s: dict[int, float]
    gmac_per_s: dict[str, float]

    def read_s(self, count: float, size: float) -> float:
        """Seconds to read ``count`` bytes of a buffer of ``size`` bytes; the rate is linear in the size's logarithm."""
        sizes = [math.log(megabytes * MB) for megabytes in self.gb_per_s]
        return count / GIGA / float(np.interp(math.log(size), sizes, list(self.gb_per_s.values())))

    def multiply_s(self, count: float, precision: str) -> float:
        """Seconds of ``count`` multiply-adds."""
        return count / GIGA / self.gmac_per_s[precision]


def measure(seconds: float) -> Rates:
    """Rates of this core; every buffer and matmul is repeated for so many seconds, and its fastest call counts."""
    bandwidth = {size: _rate(size * MB, comparison(size * MB), seconds) for size in MEGABYTES}
    matmuls = {
        precision: max(_rate(math.prod(sizes), matmul(precision, *sizes), seconds) for sizes in MATMULS)
        for precision in GRAPHS
    }
    return Rates(bandwidth, matmuls)


def _rate(count: int, action: Callable[[], object], seconds: float) -> float:
    return round(count / min(repeat(action, seconds)) / GIGA, 2)


def comparison(size: int) -> Callable[[], bool]:
    """A comparison in C of the equal halves of ``size`` bytes."""
    return partial(operator.eq, b"\1" * (size // 2), b"\1" * (size // 2))


def matmul(precision: str, rows: int, inputs: int, outputs: int) -> Callable[[], Any]:
    """A call of ONNX Runtime on one thread: [rows, inputs] times a constant [inputs, outputs], types as in a bundle."""
    rng = np.random.default_rng(1)
    types = (np.int8, np.uint8) if precision == "int8" else (np.float32, np.float32)
    weight = rng.integers(-64, 65, (inputs, outputs)).astype(types[0])
    values = rng.integers(0, 256, (rows, inputs)).astype(types[1])
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> {GRAPHS[precision]}')
    constants = {"weight": weight, "zero": np.array(128, np.uint8)}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return partial(open_session(model.SerializeToString()).run, None, {"values": values})
