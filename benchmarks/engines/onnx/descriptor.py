"""A bundle in ONNX Runtime, through the runtime that users have."""

from benchmarks.engines.base import EngineDescriptor
from compressor.bundle import PRECISIONS

DESCRIPTOR = EngineDescriptor(
    name="onnx",
    precisions=tuple(PRECISIONS),
    gpu_precisions=("fp32", "fp16", "int4"),
    opens="bundle",
    scored=True,
    parallel_batches=True,
    loads_one_search=True,
    splits_texts=True,
)
