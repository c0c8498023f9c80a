"""Hugging Face `generate` over graphs in OpenVINO's format."""

from benchmarks.engines.base import EngineDescriptor, EngineSpec, Environment
from benchmarks.engines.environments import tool_of
from benchmarks.engines.optimum.descriptor import LIBRARIES, export_commands


def conversion(spec: EngineSpec) -> list[list[str]]:
    """The commands that convert a model into the folder ``{}``."""
    return export_commands(spec, tool_of(DESCRIPTOR, "optimum-cli"), "openvino")


DESCRIPTOR = EngineDescriptor(
    name="openvino",
    precisions=("fp32",),
    peer=True,
    # Its torchvision is built for another torch, and breaks the import of transformers.
    environment=Environment((*LIBRARIES, "optimum-intel[openvino]==2.2.0"), ("torchvision",)),
    conversion=conversion,
    columns={"fp32": "OpenVINO"},
)
