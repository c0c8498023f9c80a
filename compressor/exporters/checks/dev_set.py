"""The dev set that an export is checked on: sources, and references where there are any."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from compressor.data.corpus import load_corpus
from compressor.data.readers import read_text
from compressor.errors import ConfigError, DataError, ExportError
from compressor.exporters.graphs.modules import max_source_tokens
from compressor.models.weights import Run
from compressor.text.tokenizer import cut

MAX_SOURCES = 1000
"""How many dev sources are used at most."""
RANDOM_SOURCES, RANDOM_SOURCE_TOKENS = 32, 24
"""Number of sources made of random tokens, and the maximum tokens of each."""


@dataclass(frozen=True)
class DevSet:
    """Sources as token ids, with a reference for each or without references."""

    ids: list[list[int]]
    references: list[str] | None
    is_random: bool = False
    """Whether the sources are random tokens, on which identity of outputs can be checked but no quality measured."""

    def sample(self, limit: int) -> list[list[int]]:
        """At most ``limit`` sources, evenly spaced."""
        return [self.ids[index] for index in evenly_spaced(len(self.ids), limit)]


def evenly_spaced(count: int, limit: int = MAX_SOURCES) -> list[int]:
    """At most ``limit`` of ``count`` indices, evenly spaced, since a dev set may be several corpora in a row."""
    return list(range(count)) if count <= limit else [index * count // limit for index in range(limit)]


def load_dev_set(run: Run, source: Path | None, reference: Path | None, *, allow_random: bool = False) -> DevSet:
    """Loads at most ``MAX_SOURCES`` dev sources that fit the model, with references if every source has one.

    Args:
        run: The run to export; its recipe names the default dev set.
        source: File of other sources, one a line.
        reference: File of their references, one a line.
        allow_random: Whether to use random tokens if no sources are given and the run has no recipe.

    Raises:
        ConfigError: references are given without sources.
        ExportError: there are no sources.
        DataError: a file is missing, or the two differ in their number of lines.
    """
    if reference and not source:
        raise ConfigError("{dev_reference} needs {dev_source}: give both", options=["dev_reference", "dev_source"])
    if allow_random and not source and run.recipe is None:
        return DevSet(_random_sources(run), None, is_random=True)
    pairs = [(one.source, one.target) for one in read_text(source, reference)] if source else _recipe_pairs(run)
    limit = max_source_tokens(run)
    encoded = [(run.tokenizer.encode_source(text), target) for text, target in pairs if text.strip()]
    if source is None:  # as the run's own dev scores are made
        encoded = [(cut(ids, limit, run.generation.eos_id), target) for ids, target in encoded]
    fitting = [item for item in encoded if len(item[0]) <= limit]
    if not fitting:
        raise ExportError("there are no dev sources to prove the export on: give {dev_source}", options=["dev_source"])
    chosen = [fitting[index] for index in evenly_spaced(len(fitting))]
    references = [target for _, target in chosen if target is not None]
    return DevSet([ids for ids, _ in chosen], references if len(references) == len(chosen) else None)


def _recipe_pairs(run: Run) -> list[tuple[str, str | None]]:
    """Sources and references of the dev set that the run's recipe names. Raises ExportError."""
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


def _random_sources(run: Run) -> list[list[int]]:
    """Sources of random tokens that are not special, between the prefix and suffix ids of the tokenizer."""
    rng, frame, generation = random.Random(1), run.tokenizer.frame, run.generation
    special = {generation.start_id, generation.eos_id, generation.pad_id, *frame.special_ids}
    words = [token for token in range(run.model.config.vocab_size) if token not in special]
    framing = len(frame.source_prefix_ids) + len(frame.source_suffix_ids)
    longest = min(RANDOM_SOURCE_TOKENS, max_source_tokens(run)) - framing
    return [
        [*frame.source_prefix_ids, *rng.choices(words, k=rng.randint(1, longest)), *frame.source_suffix_ids]
        for _ in range(RANDOM_SOURCES)
    ]
