"""How a call searches: what a caller may choose, checked against a bundle, as inputs of its graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy as np

from compressor.bundle import Manifest
from compressor.errors import InputError

EARLY_STOPPING: dict[bool | str, int] = {False: 0, True: 1, "never": 2}
"""Codes of ``early_stopping`` in the graphs."""

MAX_PENALTY = 100
"""Largest size of a length penalty."""


class SearchOptions(TypedDict, total=False):
    """What a caller may choose; what is left out, or None, is the bundle's default. Terms are Hugging Face's."""

    num_beams: int
    """1, the default, is greedy."""
    max_new_tokens: int | None
    """Longest output in tokens, end of sentence and prefix included."""
    min_new_tokens: int | None
    """No end of sentence before that many tokens."""
    no_repeat_ngram_size: int | None
    """No n-gram of this size occurs twice; 0 is off."""
    length_penalty: float | None
    """Beam scores are divided by length to this power."""
    early_stopping: bool | Literal["never"]
    """When beams stop: True when there are enough, False when better ones are unlikely, "never" when impossible."""


@dataclass(frozen=True)
class Search:
    """Options that a bundle can do, complete."""

    num_beams: int
    max_new_tokens: int
    min_new_tokens: int
    no_repeat_ngram_size: int
    length_penalty: float
    early_stopping: bool | str

    def feeds(self, prefixes: Any) -> dict[str, Any]:
        """Inputs of ``generate`` or ``generate_beams``; ``prefixes`` int64 [batch, prefix_len]."""
        names = ["max_new_tokens", "min_new_tokens", "no_repeat_ngram_size"]
        feeds: dict[str, Any] = {name: np.array(getattr(self, name), np.int64) for name in names}
        feeds["prefix_ids"] = prefixes
        if self.num_beams > 1:
            feeds["num_beams"] = np.array(self.num_beams, np.int64)
            feeds["length_penalty"] = np.array(self.length_penalty, np.float32)
            feeds["early_stopping"] = np.array(EARLY_STOPPING[self.early_stopping], np.int64)
        return feeds


def resolve(manifest: Manifest, options: SearchOptions) -> Search:
    """Completes a caller's options from the bundle.

    Raises:
        InputError: an option is unknown, or outside what the bundle can do.
    """
    unknown = set(options) - set(SearchOptions.__annotations__)
    if unknown:
        raise InputError(f"unknown options: {', '.join(sorted(unknown))}", option=min(unknown))
    rules = manifest.generation
    given = {name: value for name, value in options.items() if value is not None}
    longest = given.get("max_new_tokens", rules.max_new_tokens)
    return Search(
        num_beams=_integer("num_beams", given.get("num_beams", 1), 1, manifest.max_num_beams),
        max_new_tokens=_integer("max_new_tokens", longest, 1, manifest.max_new_tokens),
        min_new_tokens=_integer(
            "min_new_tokens", given.get("min_new_tokens", rules.min_new_tokens), 0, manifest.max_new_tokens
        ),
        no_repeat_ngram_size=_integer(
            "no_repeat_ngram_size",
            given.get("no_repeat_ngram_size", rules.no_repeat_ngram_size),
            0,
            manifest.max_new_tokens,
        ),
        length_penalty=_number("length_penalty", given.get("length_penalty", rules.length_penalty)),
        early_stopping=_stopping(given.get("early_stopping", rules.early_stopping)),
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
