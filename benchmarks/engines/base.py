"""What an engine is, and the table of those that exist.

An engine module has one function, ``load(spec, threads) -> Engine``. It lives in its own module so that importing one
engine's library says nothing about, and costs nothing to, the others.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol, cast

from pydantic import BaseModel, ConfigDict

EngineName = Literal["transformers", "torch", "onnx", "ctranslate2", "optimum", "openvino", "marian"]
ModelName = Literal["teacher", "student"]

_MODULES: dict[str, str] = {
    "transformers": "benchmarks.engines.huggingface",
    "torch": "benchmarks.engines.native",
    "onnx": "benchmarks.engines.onnx",
    "ctranslate2": "benchmarks.engines.ctranslate2",
    "optimum": "benchmarks.engines.optimum",
    "openvino": "benchmarks.engines.optimum",
    "marian": "benchmarks.engines.marian",
}


class EngineSpec(BaseModel):
    """One contender: which model, in which engine, in which precision."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: EngineName
    model: ModelName
    path: str
    precision: str = "fp32"
    revision: str | None = None
    source_prefix: str = ""
    source_language: str | None = None
    target_language: str | None = None
    max_new_tokens: int | None = None
    inter_threads: int = 1
    num_beams: int = 1
    """Of most calls, for engines that load a search."""
    device: Literal["cpu", "cuda"] = "cpu"

    @property
    def name(self) -> str:
        """Unique among the contenders of one table."""
        return f"{self.model} {self.engine} {self.precision}"


class Output(NamedTuple):
    """Texts in the order of the input, and the tokens of each, end of sentence included, start token not."""

    texts: list[str]
    tokens: list[int]


class Engine(Protocol):
    """A loaded model.

    Attributes:
        parameters: Count of trained numbers: tied weights once, no fixed position table; None where unknown.
        size_mb: Weights and graphs on disk, in MB (10^6 bytes).
        max_num_beams: Widest search, or None for no limit.
    """

    parameters: int | None
    size_mb: float
    max_num_beams: int | None

    def translate(self, texts: Sequence[str], *, num_beams: int) -> Output:
        """Runs one call on one batch, from text to text; sources beyond the model's limit are cut.

        Engines that can cut a batch into smaller ones (onnx, ctranslate2) take ``max_batch_size``, too.
        """
        ...


Loader = Callable[[EngineSpec, int], Engine]


def import_engine(name: EngineName) -> Loader:
    """Imports the engine's library, and returns the function that loads a model into it."""
    return cast(Loader, importlib.import_module(_MODULES[name]).load)
