"""Marian, through pymarian."""

import sys

from benchmarks.engines.base import EngineDescriptor, EngineSpec, Environment
from benchmarks.engines.converted_model import MODEL
from benchmarks.engines.environments import tool_of


def conversion(spec: EngineSpec) -> list[list[str]]:
    """The commands that convert a model into the folder ``{}``; Marian's own tool makes the int8 file."""
    commands = [[sys.executable, "-m", "benchmarks.engines.marian.converter", spec.path, "{}"]]
    if spec.precision == "int8":
        files = ["-f", f"{{}}/{MODEL}/model.npz", "-t", f"{{}}/{MODEL}/model.bin"]
        commands.append([tool_of(DESCRIPTOR, "pymarian"), "convert", *files, "--gemm-type", "intgemm8"])
    return commands


DESCRIPTOR = EngineDescriptor(
    name="marian",
    precisions=("fp32", "int8"),
    peer=True,
    operator_threads=False,
    parallel_batches=True,
    environment=Environment(("pymarian==1.12.42",)),
    conversion=conversion,
    columns={"int8": "Marian int8"},
)
