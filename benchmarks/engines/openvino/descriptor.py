"""Hugging Face `generate` over graphs in OpenVINO's format."""

from benchmarks.engines.base import Environment
from benchmarks.engines.optimum.descriptor import LIBRARIES, exported_engine

# Its torchvision is built for another torch, and breaks the import of transformers.
DESCRIPTOR = exported_engine(
    "openvino",
    "openvino",
    Environment((*LIBRARIES, "optimum-intel[openvino]==2.2.0"), ("torchvision",)),
    "OpenVINO",
)
