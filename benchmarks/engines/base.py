"""The interface of an engine, the specification of one contender, and the descriptor of an engine.

Nothing here imports an engine's library: engines run in processes and sometimes in environments of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

from compressor.runtime.results import FinishReason
from compressor.text.guards import cut_loop
from compressor.text.tokenizer import Tokenizer, cut

TEACHER = "teacher"
"""`EngineSpec.model` of the teacher; a student has a label of its own."""

FolderKind = Literal["bundle", "run", "checkpoint"]


class EngineSpec(BaseModel):
    """One contender: which model, in which engine, in which precision."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: str
    model: str
    path: str
    precision: str = "fp32"
    revision: str | None = None
    source_prefix: str = ""
    source_language: str | None = None
    target_language: str | None = None
    max_new_tokens: int | None = None
    inter_threads: int = 1
    num_beams: int = 1
    """Of most calls, for engines that load one search."""
    device: Literal["cpu", "cuda"] = "cpu"

    @property
    def name(self) -> str:
        """Unique among the contenders of one table."""
        return f"{self.model} {self.engine} {self.precision}"


class EngineOutput(NamedTuple):
    """Texts in the order of the input, and the tokens of each, end of sentence included, start token not."""

    texts: list[str]
    tokens: list[int]
    finish_reasons: Callable[[], list[FinishReason]] | None = None
    """Returns why each output ended, called after the call was timed; None where the engine does not tell."""
    cut_sources: int | None = None
    """Number of sources over the model's limit, whose end was cut; None where the engine does not tell."""


def finish_reasons(
    outputs: Sequence[list[int]], sources: Sequence[Sequence[int]], limit: int
) -> Callable[[], list[FinishReason]]:
    """Returns `EngineOutput.finish_reasons` of an engine without guards; a loop counts as one wherever it ended.

    Args:
        outputs: Token ids of each output.
        sources: Token ids of each source.
        limit: Longest output.
    """

    def reason(output: list[int], source: Sequence[int]) -> FinishReason:
        if len(cut_loop(output, source)) < len(output):
            return "repetition"
        return "length" if len(output) >= limit else "eos"

    return lambda: [reason(*pair) for pair in zip(outputs, sources, strict=True)]


def encode_sources(tokenizer: Tokenizer, texts: Sequence[str], limit: int) -> tuple[list[list[int]], int]:
    """Returns the token ids of each source, at most ``limit`` of them, and the number of sources that were cut."""
    whole = [tokenizer.encode_source(text) for text in texts]
    return [cut(ids, limit, tokenizer.eos_id) for ids in whole], sum(len(ids) > limit for ids in whole)


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

    def translate(self, texts: Sequence[str], *, num_beams: int) -> EngineOutput:
        """Translates one batch in one call, from text to text; sources beyond the model's limit are cut.

        Engines with `EngineDescriptor.parallel_batches` take ``max_batch_size``, too: they cut the batch into smaller
        ones. Those with `EngineDescriptor.splits_texts` take ``split``, which is that of `Generator.generate`.
        """
        ...


Loader = Callable[[EngineSpec, int], Engine]
"""Specification and threads inside one operator to a loaded engine: ``load`` of ``engines/NAME/engine.py``."""


class Environment(NamedTuple):
    """A virtual environment for an engine whose library excludes this project's: packages to install and to remove."""

    packages: tuple[str, ...]
    removed: tuple[str, ...] = ()


def no_conversion(spec: EngineSpec) -> list[list[str]]:
    """Returns no command: the engine opens the model's folder as it is."""
    return []


@dataclass(frozen=True)
class EngineDescriptor:
    """What the benchmarks know of an engine without importing its library.

    Attributes:
        name: Name in rows and options; the name of its folder.
        precisions: Precisions measured on processors.
        gpu_precisions: Precisions measured on a GPU; none where the engine is for processors alone.
        opens: The kind of folder that this engine runs when a command names nothing but the folder.
        peer: Whether ``--peers`` may choose it, to run the weights of the teacher and of runs.
        baseline: Whether speed-ups are counted from it, in fp32. One engine is.
        rival: Whether the table of peers sums up against it. One engine is.
        scored: Whether the peers' benchmark scores its outputs on whole test sets.
        operator_threads: Whether several threads can share one operator.
        parallel_batches: Whether it can work on several batches at a time.
        loads_one_search: Whether `EngineSpec.num_beams` decides what it loads.
        splits_texts: Whether it can read texts sentence by sentence.
        environment: Where it runs, if not in this project's environment.
        conversion: Commands that convert a model into the folder ``{}``; none where it opens the model as it is.
        columns: Precision to heading of the engine's columns in the table of peers.
    """

    name: str
    precisions: tuple[str, ...]
    gpu_precisions: tuple[str, ...] = ()
    opens: FolderKind | None = None
    peer: bool = False
    baseline: bool = False
    rival: bool = False
    scored: bool = False
    operator_threads: bool = True
    parallel_batches: bool = False
    loads_one_search: bool = False
    splits_texts: bool = False
    environment: Environment | None = None
    conversion: Callable[[EngineSpec], list[list[str]]] = no_conversion
    columns: Mapping[str, str] = field(default_factory=dict)

    def on_device(self, device: str) -> tuple[str, ...]:
        """Precisions that are measured on ``cpu`` or ``cuda``."""
        return self.precisions if device == "cpu" else self.gpu_precisions
