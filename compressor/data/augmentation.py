"""Augmentation: a share of the examples of each pass is changed, so that the model meets text as users type it.

Examples are changed as text: their token ids are decoded, the text is changed on both sides, and encoded again. The
draws are keyed by seed, pass and example (see ``random_draws``), so that a resumed run sees the same text.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from compressor.data.batching import TokenRows
from compressor.data.examples import Example
from compressor.data.random_draws import Stream, uniform
from compressor.data.text_changes import CHANGES, ends_with_stop
from compressor.data_config import AugmentationConfig, DataConfig

MOST_JOINED = 3
"""Sentences of a line in ``joined``."""


class Codec(Protocol):
    """What augmentation needs of a tokenizer."""

    def encode_source(self, text: str) -> list[int]:
        """Ids of a source."""

    def encode_target(self, text: str) -> list[int]:
        """Ids of a target, ending with EOS."""

    def decode_source(self, ids: Sequence[int]) -> str:
        """Text of a source."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of a target."""


class AugmentedRows(TokenRows):
    """Token ids of a corpus of which some rows are replaced."""

    def __init__(self, rows: TokenRows, replacements: Mapping[int, Sequence[int] | None]) -> None:
        self.rows, self.replacements = rows, TokenRows(replacements.values())
        self.places = {index: place for place, index in enumerate(replacements)}
        self.lengths = rows.lengths.copy()
        self.lengths[list(replacements)] = self.replacements.lengths

    def distinct(self) -> set[int]:
        """See TokenRows."""
        return self.rows.distinct() | self.replacements.distinct()

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        place = self.places.get(index)
        return self.rows[index] if place is None else self.replacements[place]


class Augmentation:
    """Makes the rows of each pass over a corpus.

    Args:
        config: the share of each change.
        data: limits on tokens; an example that would exceed one stays as it is.
        tokenizer: the student's.
        seed: of the run.
        first_ids: token ids before every target, such as the language that a multilingual teacher begins with.
    """

    def __init__(
        self, config: AugmentationConfig, data: DataConfig, tokenizer: Codec, seed: int, first_ids: Sequence[int] = ()
    ) -> None:
        self.config, self.data, self.tokenizer, self.seed = config, data, tokenizer, seed
        self.first_ids = list(first_ids)

    def rows(self, sources: TokenRows, targets: TokenRows, visit: int) -> tuple[TokenRows, TokenRows]:
        """Returns the sources and targets of one pass; row n belongs to example n. ``visit`` counts from 0."""
        new_sources: dict[int, list[int]] = {}
        new_targets: dict[int, list[int] | None] = {}
        texts = _Texts(self.tokenizer, sources, targets)
        for index, changed in changed_examples(texts, self.config, self.seed, visit):
            source = self.tokenizer.encode_source(changed.source)
            target = changed.target and [*self.first_ids, *self.tokenizer.encode_target(changed.target)]
            if len(source) <= self.data.max_source_tokens and len(target or ()) <= self.data.max_target_tokens:
                new_sources[index], new_targets[index] = source, target or None
        return AugmentedRows(sources, new_sources), AugmentedRows(targets, new_targets)


def changed_examples(
    texts: Sequence[Example], config: AugmentationConfig, seed: int, visit: int = 0
) -> Iterator[tuple[int, Example]]:
    """Yields the examples that a pass changes, with their indices.

    Args:
        texts: the corpus.
        config: the share of each change.
        seed: of the run.
        visit: the pass, from 0.
    """
    shares = config.shares()
    names, bounds = list(shares), np.cumsum(list(shares.values()))
    draws = uniform(Stream.AUGMENTATION, seed, visit, range(len(texts)), 2)
    kinds = np.searchsorted(bounds, draws[:, 0], side="right")
    for index in np.flatnonzero(kinds < len(names)).tolist():
        rng, name, example = random.Random(int(draws[index, 1] * 2**53)), names[kinds[index]], texts[index]
        changed = join(texts, index, rng) if name == "joined" else CHANGES[name](example, rng)
        if changed != example:
            yield index, changed


class _Texts(Sequence[Example]):
    """The examples of a corpus, decoded from token ids."""

    def __init__(self, tokenizer: Codec, sources: TokenRows, targets: TokenRows) -> None:
        self.tokenizer, self.sources, self.targets = tokenizer, sources, targets

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> Example:  # type: ignore[override]  # no slices
        target = self.targets[index].tolist()
        source = self.tokenizer.decode_source(self.sources[index].tolist())
        return Example(source, self.tokenizer.decode(target) if target else None)


def join(texts: Sequence[Example], index: int, rng: random.Random) -> Example:
    """Returns an example in one line with one or two more, drawn among those that end with a stop as it does."""
    first = texts[index]
    if not _is_sentence(first):
        return first
    parts = [first]
    for _ in range(rng.randint(1, MOST_JOINED - 1)):
        drawn = (texts[rng.randrange(len(texts))] for _ in range(8))
        fitting = (one for one in drawn if _is_sentence(one) and (one.target is None) == (first.target is None))
        parts += [one] if (one := next(fitting, None)) else []
    target = None if first.target is None else " ".join(part.target or "" for part in parts)
    return Example(" ".join(part.source for part in parts), target)


def _is_sentence(example: Example) -> bool:
    return ends_with_stop(example.source) and (example.target is None or ends_with_stop(example.target))
