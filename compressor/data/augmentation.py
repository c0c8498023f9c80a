"""Augmentation: a share of the examples of each pass is changed, so that the model meets text as users type it.

Examples are changed as text: their token ids are decoded, the text is changed on both sides, and encoded again. The
draws are keyed by seed, pass and example (see ``random_draws``), so that a resumed run sees the same text.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from compressor.data.encoding import EncodedTexts, Encoder
from compressor.data.examples import Example
from compressor.data.random_draws import Stream, uniform
from compressor.data.text_changes import CHANGES, ends_with_stop
from compressor.data.token_rows import IntArray, TokenRows
from compressor.data_config import AugmentationConfig, DataConfig

MOST_JOINED = 3
"""Sentences of a line in ``joined``."""


class Codec(Encoder, Protocol):
    """What augmentation needs of a tokenizer."""

    def decode_source(self, ids: Sequence[int]) -> str:
        """Text of a source."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of a target."""


class AugmentedRows(TokenRows):
    """Token ids of a corpus of which some rows are replaced.

    Args:
        rows: the corpus.
        indices: the rows that are replaced.
        replacements: a row for each of them.
    """

    def __init__(self, rows: TokenRows, indices: Sequence[int], replacements: TokenRows) -> None:
        self.rows, self.replacements = rows, replacements
        self.places = dict(zip(indices, range(len(indices)), strict=True))
        self.lengths = rows.lengths.copy()
        self.lengths[np.asarray(indices, dtype=np.int64)] = replacements.lengths

    def distinct(self) -> set[int]:
        """See TokenRows."""
        return self.rows.distinct() | self.replacements.distinct()

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        place = self.places.get(index)
        return self.rows[index] if place is None else self.replacements[place]


@dataclass
class Replacements:
    """The rows that a part of a pass replaces: their places in the corpus, and their token ids."""

    indices: array[int] = field(default_factory=lambda: array("q"))
    texts: EncodedTexts = field(default_factory=EncodedTexts)


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

    def replacements(self, sources: TokenRows, targets: TokenRows, visit: int, part: IntArray) -> Replacements:
        """Returns what a pass replaces in the rows of these indices; ``visit`` counts from 0."""
        replaced = Replacements()
        texts = _Texts(self.tokenizer, sources, targets)
        for index, changed in changed_examples(texts, self.config, self.seed, visit, part):
            source = self.tokenizer.encode_source(changed.source)
            target = [*self.first_ids, *self.tokenizer.encode_target(changed.target)] if changed.target else []
            if len(source) <= self.data.max_source_tokens and len(target) <= self.data.max_target_tokens:
                replaced.indices.append(index)
                replaced.texts.append(source, target)
        return replaced


def replaced_rows(
    sources: TokenRows, targets: TokenRows, parts: Iterable[Replacements]
) -> tuple[AugmentedRows, AugmentedRows]:
    """Returns the sources and targets of a pass from what its parts replace; row n belongs to example n."""
    whole = Replacements()
    for part in parts:
        whole.indices.extend(part.indices)
        whole.texts.extend(part.texts)
    texts = whole.texts
    new_sources = TokenRows.of(np.asarray(texts.sources, np.int32), np.asarray(texts.source_lengths, np.int64))
    new_targets = TokenRows.of(np.asarray(texts.targets, np.int32), np.asarray(texts.target_lengths, np.int64))
    return AugmentedRows(sources, whole.indices, new_sources), AugmentedRows(targets, whole.indices, new_targets)


def changed_examples(
    texts: Sequence[Example], config: AugmentationConfig, seed: int, visit: int = 0, part: IntArray | None = None
) -> Iterator[tuple[int, Example]]:
    """Yields the examples that a pass changes, with their indices.

    Args:
        texts: the corpus.
        config: the share of each change.
        seed: of the run.
        visit: the pass, from 0.
        part: the indices that are looked at; None: all.
    """
    shares, part = config.shares(), np.arange(len(texts)) if part is None else part
    names, bounds = list(shares), np.cumsum(list(shares.values()))
    draws = uniform(Stream.AUGMENTATION, seed, visit, part, 2)
    kinds = np.searchsorted(bounds, draws[:, 0], side="right")
    for place in np.flatnonzero(kinds < len(names)).tolist():
        index, rng, name = int(part[place]), random.Random(int(draws[place, 1] * 2**53)), names[kinds[place]]
        example = texts[index]
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
