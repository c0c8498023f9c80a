"""Hugging Face `generate`, on a checkpoint or on a run in Marian's layout."""

from benchmarks.engines.base import EngineDescriptor

DESCRIPTOR = EngineDescriptor(
    name="transformers",
    precisions=("fp32", "bf16"),
    gpu_precisions=("fp32", "fp16"),
    opens="checkpoint",
    peer=True,
    baseline=True,
    columns={"fp32": "`generate` fp32", "bf16": "`generate` bf16"},
)
