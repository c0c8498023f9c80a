"""CTranslate2: a model in Marian's layout, converted with token ids as its vocabulary."""

import sys

from benchmarks.engines.base import EngineDescriptor, EngineSpec


def conversion(spec: EngineSpec) -> list[list[str]]:
    """The command that converts a model into the folder ``{}``."""
    return [[sys.executable, "-m", "benchmarks.engines.ctranslate2.converter", spec.path, "{}", spec.precision]]


DESCRIPTOR = EngineDescriptor(
    name="ctranslate2",
    precisions=("fp32", "int8"),
    gpu_precisions=("fp32", "fp16"),
    peer=True,
    rival=True,
    scored=True,
    parallel_batches=True,
    conversion=conversion,
    columns={"int8": "CTranslate2 int8", "fp32": "CTranslate2 fp32"},
)
