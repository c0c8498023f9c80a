"""Takes emoji and Markdown's emphasis and links from the ends of a sentence, where models lose or repeat them."""

from __future__ import annotations

import re
import unicodedata

_EMPHASIS = re.compile(r"(\*{1,3}|_{1,3}|~~)(?=[^\s*_~])(.*[^\s*_~])(\1:?)", re.DOTALL)
_LINK = re.compile(r"(!?\[)([^][]+)(\]\([^()\s]*(?:\s\"[^\"]*\")?\))")
_JOINERS = "\u200d\ufe0f"
"""Characters within emoji: zero-width joiner, variation selector."""


def split_marks(sentence: str) -> list[str]:
    """Returns a sentence in parts: the marks before it, the sentence, the marks after it; joined, they are the text.

    Marks are emoji, and emphasis or a link that encloses the whole sentence (``**Gut.**``, ``[Gut](a.html)``).
    """
    start, end = 0, len(sentence)
    while start < end and _is_mark(sentence, start):
        start += 1
    while end > start and _is_mark(sentence, end - 1):
        end -= 1
    before, body, after = sentence[:start], sentence[start:end], sentence[end:]
    enclosed = _EMPHASIS.fullmatch(body) or _LINK.fullmatch(body)
    if enclosed and enclosed[1] not in enclosed[2]:
        before, body, after = before + enclosed[1], enclosed[2], enclosed[3] + after
    return [part for part in (before, body, after) if part]


def _is_mark(text: str, place: int) -> bool:
    """Returns whether a character is white space, or part of an emoji."""
    character = text[place]
    if character.isspace() or character in _JOINERS:
        return True
    kind = unicodedata.category(character)
    return kind in ("So", "Sk") and ord(character) >= 0x2190
