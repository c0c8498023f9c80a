"""What an export is proved on: dev sources, and their references where there are some."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from compressor.data.corpus import load_corpus
from compressor.data.readers import read_text
from compressor.errors import ConfigError, DataError, ExportError
from compressor.exporters.graphs.modules import max_source_tokens
from compressor.models.weights import Run

MAX_SOURCES = 1000
INVENTED, INVENTED_LENGTH = 32, 24
"""Sources of random tokens, and the most tokens of each."""


@dataclass(frozen=True)
class DevSet:
    """Token ids of sources, with a reference each, or none at all."""

    ids: list[list[int]]
    references: list[str] | None
    invented: bool = False
    """Of random tokens: what is exact can be proved on them, and no quality measured."""


def spread(count: int, limit: int = MAX_SOURCES) -> list[int]:
    """At most ``limit`` indices, evenly over ``count``: a dev set may be several corpora one after the other."""
    return list(range(count)) if count <= limit else [index * count // limit for index in range(limit)]


def dev_set(run: Run, source: Path | None, reference: Path | None, *, invent: bool = False) -> DevSet:
    """At most ``MAX_SOURCES`` dev sources that fit the model, with their references where all have one.

    Args:
        run: What is exported; its recipe names a dev set.
        source: Other sources, one a line.
        reference: Of these.
        invent: Whether random tokens do where there are no sources.

    Raises:
        ConfigError: references are given without sources.
        ExportError: there are none.
        DataError: a file is missing, or the two do not match.
    """
    if reference and not source:
        raise ConfigError("{dev_reference} needs {dev_source}: give both", options=["dev_reference", "dev_source"])
    if invent and not source and run.recipe is None:
        return DevSet(_invented(run), None, invented=True)
    pairs = [(one.source, one.target) for one in read_text(source, reference)] if source else _recorded(run)
    limit = max_source_tokens(run)
    encoded = [(run.tokenizer.encode_source(text), target) for text, target in pairs if text.strip()]
    fitting = [item for item in encoded if len(item[0]) <= limit]
    if not fitting:
        raise ExportError("there are no dev sources to prove the export on: give {dev_source}", options=["dev_source"])
    chosen = [fitting[index] for index in spread(len(fitting))]
    references = [target for _, target in chosen if target is not None]
    return DevSet([ids for ids, _ in chosen], references if len(references) == len(chosen) else None)


def _recorded(run: Run) -> list[tuple[str, str | None]]:
    if run.recipe is None:
        raise ExportError(
            "the model has no recipe that names a dev set: give {dev_source}, or take {precisions} with {ungated}",
            options={"dev_source": None, "precisions": ("fp32",), "ungated": True},
        )
    try:
        return [(example.source, example.target) for example in load_corpus(run.recipe.data, "dev").examples]
    except DataError as error:
        message = f"the run's dev set cannot be read ({error}): give {{dev_source}}"
        raise ExportError(message, options=["dev_source"]) from None


def _invented(run: Run) -> list[list[int]]:
    chance, frame, generation = random.Random(1), run.tokenizer.frame, run.generation
    special = {generation.start_id, generation.eos_id, generation.pad_id, *frame.special_ids}
    words = [token for token in range(run.model.config.vocab_size) if token not in special]
    around = len(frame.source_prefix_ids) + len(frame.source_suffix_ids)
    longest = min(INVENTED_LENGTH, max_source_tokens(run)) - around
    return [
        [*frame.source_prefix_ids, *chance.choices(words, k=chance.randint(1, longest)), *frame.source_suffix_ids]
        for _ in range(INVENTED)
    ]
