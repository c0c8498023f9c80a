"""Hugging Face `generate` over ONNX graphs that Optimum exported."""

import sys

from benchmarks.engines.base import EngineDescriptor, EngineSpec, Environment
from benchmarks.engines.converted_model import MODEL
from benchmarks.engines.environments import tool_of

LIBRARIES = ("torch==2.13.0", "transformers==4.57.6", "accelerate")


def exported_engine(name: str, exporter: str, environment: Environment, heading: str) -> EngineDescriptor:
    """Returns the descriptor of an engine that runs what one of Optimum's exporters makes of a checkpoint.

    Args:
        name: Name of the engine.
        exporter: Exporter of ``optimum-cli``: ``onnx`` or ``openvino``.
        environment: Where exporter and engine run.
        heading: Heading of the engine's column.
    """

    def conversion(spec: EngineSpec) -> list[list[str]]:
        model, task = f"{{}}/{MODEL}", ["--task", "text2text-generation-with-past"]
        return [
            [sys.executable, "-m", "benchmarks.engines.optimum.converter", spec.path, "{}"],
            [tool_of(descriptor, "optimum-cli"), "export", exporter, "--model", model, *task, model],
        ]

    descriptor = EngineDescriptor(
        name=name,
        precisions=("fp32",),
        peer=True,
        environment=environment,
        conversion=conversion,
        columns={"fp32": heading},
    )
    return descriptor


DESCRIPTOR = exported_engine(
    "optimum", "onnx", Environment((*LIBRARIES, "optimum-onnx[onnxruntime]==0.1.0")), "Optimum"
)
