"""Hugging Face `generate` over ONNX graphs that Optimum exported."""

import sys

from benchmarks.engines.base import EngineDescriptor, EngineSpec, Environment
from benchmarks.engines.converted_model import MODEL
from benchmarks.engines.environments import tool_of

LIBRARIES = ("torch==2.13.0", "transformers==4.57.6", "accelerate")


def export_commands(spec: EngineSpec, tool: str, exporter: str) -> list[list[str]]:
    """The commands that write a checkpoint of the model and run one of Optimum's exporters over it."""
    model, task = f"{{}}/{MODEL}", ["--task", "text2text-generation-with-past"]
    return [
        [sys.executable, "-m", "benchmarks.engines.optimum.converter", spec.path, "{}"],
        [tool, "export", exporter, "--model", model, *task, model],
    ]


def conversion(spec: EngineSpec) -> list[list[str]]:
    """The commands that convert a model into the folder ``{}``."""
    return export_commands(spec, tool_of(DESCRIPTOR, "optimum-cli"), "onnx")


DESCRIPTOR = EngineDescriptor(
    name="optimum",
    precisions=("fp32",),
    peer=True,
    environment=Environment((*LIBRARIES, "optimum-onnx[onnxruntime]==0.1.0")),
    conversion=conversion,
    columns={"fp32": "Optimum"},
)
