"""Checks the search options of a call against a bundle and makes the inputs of its graphs from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict

import numpy as np

from compressor.bundle import Manifest
from compressor.errors import InputError

EARLY_STOPPING: dict[bool | str, int] = {False: 0, True: 1, "never": 2}
"""Codes of ``early_stopping`` in the graphs."""

MAX_PENALTY = 100
"""Maximum absolute value of a length penalty."""


PerText = int | Sequence[int]
"""One number for all texts of a call, or one for each."""


class SearchOptions(TypedDict, total=False):
    """Options of a call, with Hugging Face's names and meanings. None or absent: the bundle's default."""

    num_beams: int
    """1 (the default) is greedy search."""
    max_new_tokens: PerText | None
    """Maximum output length in tokens, with EOS and prefix. The default follows the length of the source, where the
    bundle has learned how: ``Manifest.default_max_new_tokens``."""
    min_new_tokens: PerText | None
    """EOS is forbidden before this many tokens."""
    no_repeat_ngram_size: int | None
    """No n-gram of this size occurs twice; 0 is off."""
    length_penalty: float | Sequence[float] | None
    """Beam scores are divided by length ** length_penalty."""
    early_stopping: bool | Literal["never"]
    """Beams stop when enough are finished (True), or when better ones are unlikely (False) or impossible ("never")."""


@dataclass(frozen=True)
class Search:
    """Complete, checked options of a call; tuples have one entry for each text."""

    num_beams: int
    max_new_tokens: tuple[int, ...]
    min_new_tokens: tuple[int, ...]
    no_repeat_ngram_size: int
    length_penalty: tuple[float, ...]
    early_stopping: bool | str
    limits_by_source: bool = False
    """Whether the call gave no ``max_new_tokens``, so that the bundle's for the length of a source applies."""

    def for_sources(self, manifest: Manifest, sources: Sequence[Sequence[int]]) -> Search:
        """Returns the options for these sources (token ids): each with its default of ``max_new_tokens``."""
        if not self.limits_by_source:
            return self
        pairs = zip(map(len, sources), self.min_new_tokens, strict=True)
        return replace(self, max_new_tokens=tuple(manifest.default_max_new_tokens(*pair) for pair in pairs))

    def select(self, rows: Sequence[int]) -> Search:
        """Returns the options of the texts at these indices."""
        return replace(
            self,
            max_new_tokens=tuple(self.max_new_tokens[row] for row in rows),
            min_new_tokens=tuple(self.min_new_tokens[row] for row in rows),
            length_penalty=tuple(self.length_penalty[row] for row in rows),
        )

    def feeds(self, prefixes: Any) -> dict[str, Any]:
        """Returns inputs of ``generate`` or ``generate_beams``; ``prefixes`` is int64 [texts, prefix_len]."""
        feeds = {
            "max_new_tokens": np.array(self.max_new_tokens, np.int64),
            "min_new_tokens": np.array(self.min_new_tokens, np.int64),
            "no_repeat_ngram_size": np.array(self.no_repeat_ngram_size, np.int64),
            "prefix_ids": prefixes,
        }
        if self.num_beams > 1:
            feeds["num_beams"] = np.array(self.num_beams, np.int64)
            feeds["length_penalty"] = np.array(self.length_penalty, np.float32)
            feeds["early_stopping"] = np.array(EARLY_STOPPING[self.early_stopping], np.int64)
        return feeds


def resolve(manifest: Manifest, options: SearchOptions, texts: int) -> Search:
    """Returns the options of a call, completed with the bundle's defaults.

    Args:
        manifest: Manifest of the bundle.
        options: Options of the call.
        texts: Number of texts of the call.

    Raises:
        InputError: an option is unknown, is outside the bundle's limits, or has a wrong number of entries.
    """
    unknown = set(options) - set(SearchOptions.__annotations__)
    if unknown:
        raise InputError(f"unknown options: {', '.join(sorted(unknown))}", option=min(unknown))
    rules, longest = manifest.generation, manifest.max_new_tokens
    given = {name: value for name, value in options.items() if value is not None}

    def chosen(name: str) -> Any:
        return given.get(name, getattr(rules, name))

    def each(name: str) -> list[object]:
        value = chosen(name)
        values = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value] * texts
        if len(values) != texts:
            message = f"{{{name}}} has {len(values)} entries and there are {texts} texts: give one, or one a text"
            raise InputError(message, option=name, actual=len(values), limit=texts)
        return values

    return Search(
        num_beams=_integer("num_beams", given.get("num_beams", 1), 1, manifest.max_num_beams),
        max_new_tokens=tuple(_integer("max_new_tokens", value, 1, longest) for value in each("max_new_tokens")),
        min_new_tokens=tuple(_integer("min_new_tokens", value, 0, longest) for value in each("min_new_tokens")),
        no_repeat_ngram_size=_integer("no_repeat_ngram_size", chosen("no_repeat_ngram_size"), 0, longest),
        length_penalty=tuple(_number("length_penalty", value) for value in each("length_penalty")),
        early_stopping=_stopping(chosen("early_stopping")),
        limits_by_source="max_new_tokens" not in given,
    )


def _integer(name: str, value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        message = f"{{{name}}} is {value}: give an integer from {least} to {most}"
        raise InputError(message, option=name, actual=value, limit=most)
    return value


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX_PENALTY:
        message = f"{{{name}}} is {value}: give a number from -{MAX_PENALTY} to {MAX_PENALTY}"
        raise InputError(message, option=name, actual=value, limit=MAX_PENALTY)
    return float(value)


def _stopping(value: object) -> bool | str:
    if not isinstance(value, bool | str) or value not in EARLY_STOPPING:
        message = f"{{early_stopping}} is {value!r}: give true, false or 'never'"
        raise InputError(message, option="early_stopping", actual=value)
    return value
