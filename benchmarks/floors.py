"""What one core can do at best: bytes read a second, by the size of the buffer, and multiply-adds a second."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from benchmarks.timing import repeat
from compressor.runtime.session import check_onnxruntime

MEGABYTES = (1, 2, 4, 8, 16, 32, 64, 256)
"""Sizes of the buffers that are read; the last is far beyond the caches."""

PRODUCTS = ((128, 512, 512), (256, 1024, 1024), (512, 1024, 1024))
"""Rows, d, columns: large enough to keep the core busy, small enough for its caches. The fastest counts."""

MB = 1 << 20


class Rates(NamedTuple):
    """A core's."""

    bandwidth: dict[int, float]
    """Size of the buffer in MB (2²⁰ bytes), ascending, to bytes a second."""
    products: dict[str, float]
    """Precision to multiply-adds a second."""

    @property
    def memory(self) -> float:
        """Bytes a second from beyond the caches."""
        return self.bandwidth[max(self.bandwidth)]

    def reading(self, size: float) -> float:
        """Bytes a second from a buffer of so many bytes: on the line between the two nearest sizes, by logarithm."""
        sizes = [math.log(megabytes * MB) for megabytes in self.bandwidth]
        return float(np.interp(math.log(size), sizes, list(self.bandwidth.values())))


def measure(seconds: float) -> Rates:
    """Rates of this core; every buffer and every product is tried for so many seconds, and its fastest call counts."""
    bandwidth = {size: _reading_rate(size * MB, seconds) for size in MEGABYTES}
    products = {
        precision: max(math.prod(sizes) / min(repeat(product(precision, *sizes), seconds)) for sizes in PRODUCTS)
        for precision in ("int8", "fp32")
    }
    return Rates(bandwidth, products)


def _reading_rate(size: int, seconds: float) -> float:
    """Bytes a second, by the two ways of the C library to look at every byte that do nearly nothing else with it.

    A search for a byte that is not there reads one stream, a comparison of two halves that are equal reads two. Neither
    uses threads, as a product of NumPy's might.
    """
    whole = b"\1" * size
    half, other = whole[: size // 2], whole[size // 2 :]
    searching, comparing = (lambda: whole.find(b"\2")), (lambda: half == other)
    return size / min(repeat(searching, seconds / 2) + repeat(comparing, seconds / 2))


def product(precision: str, rows: int, d: int, columns: int) -> Callable[[], Any]:
    """A product with a constant weight in ONNX Runtime on one thread, numbers as in a bundle of that precision."""
    chance = np.random.default_rng(1)
    if precision == "int8":
        weight = chance.integers(-64, 65, (d, columns)).astype(np.int8)
        values = chance.integers(0, 256, (rows, d)).astype(np.uint8)
        node, result = helper.make_node("MatMulInteger", ["values", "weight", "zero"], ["result"]), TensorProto.INT32
    else:
        weight = chance.standard_normal((d, columns)).astype(np.float32)
        values = chance.standard_normal((rows, d)).astype(np.float32)
        node, result = helper.make_node("MatMul", ["values", "weight"], ["result"]), TensorProto.FLOAT
    kind = helper.np_dtype_to_tensor_dtype(values.dtype)
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("values", kind, values.shape)],
        [helper.make_tensor_value_info("result", result, (rows, columns))],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.array(128, np.uint8), "zero")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnxruntime = check_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"values": values})
