"""What an export is proved on: dev sources, and their references where there are some."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compressor.data.corpus import load_corpus
from compressor.data.readers import read_text
from compressor.errors import ConfigError, DataError, ExportError
from compressor.exporters.manifest import max_source_tokens
from compressor.models.storage import Run

MAX_SOURCES = 1000


@dataclass(frozen=True)
class DevSet:
    """Sources as text and as token ids, with a reference each, or none at all."""

    sources: list[str]
    references: list[str] | None
    ids: list[list[int]]


def spread(count: int, limit: int = MAX_SOURCES) -> list[int]:
    """At most ``limit`` indices, evenly over ``count``: a dev set may be several corpora one after the other."""
    return list(range(count)) if count <= limit else [index * count // limit for index in range(limit)]


def dev_set(run: Run, source: Path | None, reference: Path | None) -> DevSet:
    """At most ``MAX_SOURCES`` dev sources that fit the model, with their references where all have one.

    Raises:
        ConfigError: references are given without sources.
        ExportError: there are none.
        DataError: a file is missing, or the two do not match.
    """
    if reference and not source:
        raise ConfigError("--dev-reference has no --dev-source that it could be of: give both")
    pairs = [(one.source, one.target) for one in read_text(source, reference)] if source else _recorded(run)
    limit = max_source_tokens(run)
    encoded = [(text, ref, run.tokenizer.encode_source(text)) for text, ref in pairs if text.strip()]
    fitting = [item for item in encoded if len(item[2]) <= limit]
    if not fitting:
        raise ExportError("there are no dev sources to prove the export on: give --dev-source FILE")
    chosen = [fitting[index] for index in spread(len(fitting))]
    references = [ref for _, ref, _ in chosen if ref is not None]
    return DevSet(
        [text for text, _, _ in chosen],
        references if len(references) == len(chosen) else None,
        [ids for _, _, ids in chosen],
    )


def _recorded(run: Run) -> list[tuple[str, str | None]]:
    if run.recipe is None:
        raise ExportError("the run has no recipe that names a dev set: give --dev-source FILE")
    try:
        return [(example.source, example.target) for example in load_corpus(run.recipe.data, "dev").examples]
    except DataError as error:
        raise ExportError(f"the run's dev set cannot be read ({error}): give --dev-source FILE") from None
