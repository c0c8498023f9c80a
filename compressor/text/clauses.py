"""Cuts a text that is too long for a model into parts that are not."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable

_BOUNDARIES = [
    re.compile(pattern)
    for pattern in (
        r"[.!?…]['\"“”»)\]]*\s+|[。！？]",
        r"[;:]\s+|\s[–—-]\s+|[；：]",
        r"[,،、，]\s*(?=\D)",
        r"(?<!\s)\s+(?=(?:und|oder|aber|sondern|denn|weil|dass|wenn|and|or|but|because|that|which|et|ou|mais|y|o|pero)\s)",
        r"(?<!\s)\s+",
        r"",
    )
]
"""Ends of parts, the best first: sentences, clauses, phrases, words, characters."""

_SHORTEST = 4
"""A part is at least the longest possible one divided by this, so that a better boundary does not make tiny parts."""


def split_at_clauses(text: str, fits: Callable[[str], bool], characters: int) -> list[str]:
    """Returns parts of a text that fit; joined, they are the text.

    Each part ends at the best boundary: of a sentence, else at a semicolon, colon or dash, else at a comma, else before
    a conjunction, else at white space, else between two characters.

    Args:
        text: The text.
        fits: Whether the model takes a part whole.
        characters: More characters than fit in any part; bounds the time.
    """
    parts = []
    while len(text) > characters or not fits(text):
        length = _first_part(text[:characters], fits)
        parts.append(text[:length])
        text = text[length:]
        characters = min(characters, max(64, 4 * length))
    return [*parts, text] if text else parts


def _first_part(text: str, fits: Callable[[str], bool]) -> int:
    """Returns the length of the first part of a text that does not fit, at least 1."""
    longest = _last_that_fits(range(1, len(text) + 1), text, fits) or 1
    for boundary in _BOUNDARIES:
        ends = [match.end() for match in boundary.finditer(text, 0, longest) if match.end() <= longest]
        if ends and ends[-1] >= longest / _SHORTEST and (length := _last_that_fits(ends, text, fits)):
            return length
    return longest


def _last_that_fits(ends: range | list[int], text: str, fits: Callable[[str], bool]) -> int:
    """Returns the last of these lengths at which the text fits, by bisection; 0 if it fits at none."""
    place = bisect_right(ends, False, key=lambda end: not fits(text[:end]))
    return ends[place - 1] if place else 0
