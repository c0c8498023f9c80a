"""Measures what one core can do at best: bytes read a second by size of the buffer, and multiply-adds a second."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from onnx import helper, numpy_helper

from benchmarks.measure.timing import repeat
from compressor.runtime.session import check_onnxruntime

MEGABYTES = (1, 2, 4, 8, 16, 32, 64, 256)
"""Sizes of the buffers that are read; the last is far larger than the caches."""
MATMULS = ((128, 512, 512), (256, 1024, 1024), (512, 1024, 1024))
"""Rows, inputs and outputs of the timed matmuls; the fastest counts."""
MB = 1 << 20


class Rates(NamedTuple):
    """A core's rates: buffer size in MB (2²⁰ bytes), ascending, to bytes/s; precision to multiply-adds/s."""

    bandwidth: dict[int, float]
    matmuls: dict[str, float]

    def reading(self, size: float) -> float:
        """Bytes a second from a buffer of ``size`` bytes, interpolated between sizes by their logarithm."""
        sizes = [math.log(megabytes * MB) for megabytes in self.bandwidth]
        return float(np.interp(math.log(size), sizes, list(self.bandwidth.values())))


def measure(seconds: float) -> Rates:
    """Rates of this core; every buffer and matmul is repeated for so many seconds, and its fastest call counts."""
    bandwidth = {size: _reading_rate(size * MB, seconds) for size in MEGABYTES}
    matmuls = {
        precision: max(math.prod(sizes) / min(repeat(matmul(precision, *sizes), seconds)) for sizes in MATMULS)
        for precision in ("int8", "fp32")
    }
    return Rates(bandwidth, matmuls)


def _reading_rate(size: int, seconds: float) -> float:
    """Bytes a second of the faster of two scans in C: search for an absent byte, comparison of equal halves."""
    whole = b"\1" * size
    half, rest = whole[: size // 2], whole[size // 2 :]
    searching, comparing = (lambda: whole.find(b"\2")), (lambda: half == rest)
    return size / min(repeat(searching, seconds / 2) + repeat(comparing, seconds / 2))


def matmul(precision: str, rows: int, inputs: int, outputs: int) -> Callable[[], Any]:
    """A call of ONNX Runtime on one thread: [rows, inputs] times a constant [inputs, outputs], types as in a bundle."""
    rng = np.random.default_rng(1)
    if precision == "int8":
        result: Any = np.int32
        weight = rng.integers(-64, 65, (inputs, outputs)).astype(np.int8)
        values: Any = rng.integers(0, 256, (rows, inputs)).astype(np.uint8)
        node = helper.make_node("MatMulInteger", ["values", "weight", "zero"], ["result"])
    else:
        result = np.float32
        weight = rng.standard_normal((inputs, outputs)).astype(np.float32)
        values = rng.standard_normal((rows, inputs)).astype(np.float32)
        node = helper.make_node("MatMul", ["values", "weight"], ["result"])
    constants = {"weight": weight, "zero": np.array(128, np.uint8)}
    tensors = [("values", values.dtype, values.shape), ("result", np.dtype(result), (rows, outputs))]
    source, target = (
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), shape)
        for name, dtype, shape in tensors
    )
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph([node], "matmul", [source], [target], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnxruntime = check_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"values": values})
