"""A run in PyTorch, through the project's own search."""

from benchmarks.engines.base import EngineDescriptor

DESCRIPTOR = EngineDescriptor(name="torch", precisions=("fp32",), gpu_precisions=("fp32",), opens="run")
