"""Scores of a model on a test set, with their signature."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.engines.folders import read_folder, spec_of
from benchmarks.engines.process import Connect, Host, LocalHost
from benchmarks.engines.registry import engine_for
from benchmarks.quality.config import EvaluateConfig
from compressor.data.readers import read_table, read_text
from compressor.data.tables import is_table
from compressor.errors import ConfigError, DataError
from compressor.provenance import provenance
from compressor.text.metrics import score

COUNT_KEYS = ("length_stops", "repetition_stops", "cut_sources")
"""Numbers of outputs that are not whole, and of sources that were not read to their end."""


@dataclass(frozen=True)
class Evaluation:
    """The scores, as JSON values with their settings, and the outputs, one for each source."""

    scores: dict[str, Any]
    hypotheses: list[str]


class TestSet(NamedTuple):
    """Files of a test set; ``reference`` is None where the source file holds both sides."""

    name: str
    source: Path
    reference: Path | None


def evaluate(
    path: str | Path,
    config: EvaluateConfig,
    *,
    progress: Callable[[int, int], object] | None = None,
    connect: Connect = LocalHost,
) -> Evaluation:
    """Translates (or summarizes) a whole file and scores it.

    Args:
        path: Bundle, run folder, or Hugging Face folder or name; its files tell which.
        config: Options; without a task, that of the bundle or run, else translation.
        progress: Called with (sentences done, sentences in all).
        connect: Where the engine runs.

    Raises:
        CompressError: a model or file is missing or damaged, or the files do not match.
    """
    sources, references = read_test_set(config.source, config.reference)
    spec, checkpoint_options = spec_of(path, "student", config.precision, None), config.checkpoint_options
    if checkpoint_options and spec.engine != engine_for("checkpoint").name:
        raise ConfigError(f"{path}: {', '.join(checkpoint_options)}: for Hugging Face checkpoints alone")
    task = config.task or read_folder(path).task or "translation"
    host, num_beams = connect(spec.model_copy(update=checkpoint_options), config.threads), config.num_beams
    try:
        if host.info.max_num_beams is not None and num_beams > host.info.max_num_beams:
            raise ConfigError(f"{path}: searches with at most {host.info.max_num_beams} beam, got {num_beams}")
        start = time.perf_counter()
        counter: Counter[str] = Counter()
        hypotheses = translate_all(host, sources, num_beams, config.batch_size, progress, counter)
        seconds = time.perf_counter() - start
    finally:
        host.close()
    scores = {
        "task": task,
        "engine": spec.engine,
        "precision": spec.precision,
        "num_beams": num_beams,
        "sentences": len(sources),
        "parameters": host.info.parameters,
        "seconds": round(seconds, 3),
        **quality(task, hypotheses, references),
        **counts(counter),
        "provenance": provenance(),
    }
    return Evaluation(scores, hypotheses)


def parse_test_set(text: str) -> TestSet:
    """Returns the test set of an option ``NAME=SOURCE,REFERENCE`` (``NAME=SOURCE`` for JSON lines).

    Raises:
        ConfigError: the name or the source is missing.
    """
    name, _, files = text.partition("=")
    source, _, reference = files.partition(",")
    if not (name and source):
        raise ConfigError(f"{{test}} {text}: give NAME=SOURCE,REFERENCE", options=["test"])
    return TestSet(name, Path(source), Path(reference) if reference else None)


def read_test_set(source: Path, reference: Path | None) -> tuple[list[str], list[str]]:
    """Returns sources and references, line by line, nothing dropped.

    Each file is plain text, or has columns ``source`` and ``target``; of a file with both, only the side asked for is
    read where ``reference`` is given.

    Raises:
        DataError: a file is missing or damaged, there are no references, or the files differ in length.
    """
    if reference is None and not is_table(source):
        read_sources(source)  # raises for a missing or damaged file first
        message = f"{source}: scores need references; give {{reference}}, or a table with source and target"
        raise DataError(message, options=["reference"])
    if reference is None:
        examples = list(read_table(source, "source", "target"))
        return [example.source for example in examples], [example.target or "" for example in examples]
    sources, references = read_sources(source), _read_side(reference, "target")
    if len(sources) != len(references):
        raise DataError(
            f"{source} has {len(sources)} sources but {reference} has {len(references)} references: "
            "number n of one must belong to number n of the other"
        )
    return sources, references


def read_sources(source: Path) -> list[str]:
    """Sources alone. Raises DataError."""
    return _read_side(source, "source")


def _read_side(path: Path, column: str) -> list[str]:
    """Reads one side of a test set: the lines of a text, or a column of a table."""
    examples = read_table(path, column, None) if is_table(path) else read_text(path, None)
    return [example.source for example in examples]


def translate_all(
    host: Host,
    sources: Sequence[str],
    num_beams: int,
    batch_size: int,
    progress: Callable[[int, int], object] | None = None,
    counter: Counter[str] | None = None,
    **options: int | str,
) -> list[str]:
    """Outputs in the order of the sources. Sources of similar length share a batch; a blank one stays blank.

    ``counter`` counts why outputs ended, and as ``cut`` the sources that were cut, if the engine tells; ``options`` are
    the engine's own.
    """
    outputs = [""] * len(sources)
    order = sorted((i for i, text in enumerate(sources) if text.strip()), key=lambda i: len(sources[i]))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        reply = host.translate([sources[i] for i in chosen], num_beams, **options)
        for index, text in zip(chosen, reply.texts, strict=True):
            outputs[index] = text
        if counter is not None:
            counter.update(reply.finish_reasons or ())
            if reply.cut_sources is not None:
                counter["cut"] += reply.cut_sources
        if progress is not None:
            progress(start + len(chosen), len(order))
    return outputs


def quality(task: str, hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """The scores that apply to the task, null for those that do not, with the signature."""
    scores = score(task, hypotheses, references).to_dict()
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in scores.items()}


def counts(counter: Counter[str]) -> dict[str, int | None]:
    """The outputs that stopped at their limit or in a loop, and the sources cut; null where the engine did not tell."""
    told = counter.keys() - {"cut"}
    stopped = (counter["length"], counter["repetition"]) if told else (None, None)
    return dict(zip(COUNT_KEYS, (*stopped, counter.get("cut")), strict=True))
