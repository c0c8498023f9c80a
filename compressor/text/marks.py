"""Takes emoji, and Markdown's emphasis and links around a sentence, out of it, because models lose or repeat them."""

from __future__ import annotations

import re
import unicodedata

_EMPHASIS = re.compile(r"(\*{1,3}|_{1,3}|~~)(?=[^\s*_~])(.*[^\s*_~])(\1[.,:;!?]?)", re.DOTALL)
_LINK = re.compile(r"(!?\[)([^][]+)(\]\([^()\s]*(?:\s\"[^\"]*\")?\)[.,:;!?]?)")


def _symbols() -> str:
    """Returns the pictures of Unicode, from arrows to emoji."""
    ranges = (range(0x2190, 0x2C00), range(0x1F000, 0x1FB00))
    return "".join(character for codes in ranges for character in map(chr, codes) if _is_symbol(character))


def _is_symbol(character: str) -> bool:
    return unicodedata.category(character) in ("So", "Sk")


_EMOJI = re.compile(f"((?<!\\s)\\s*[{re.escape(_symbols())}][{re.escape(_symbols())}\u200d\ufe0f\\s]*)")
"""Emoji in a row, with joiners, variation selectors and white space."""


def split_emoji(text: str) -> list[str]:
    """Returns a text in parts, emoji apart from the words; joined, they are the text."""
    return _EMOJI.split(text)


def split_marks(sentence: str) -> list[str]:
    """Returns a sentence in parts: the marks before it, the sentence, the marks after it; joined, they are the text.

    Marks are white space, and emphasis or a link that encloses the whole sentence (``**Gut.**``, ``[Gut](a.html)``).
    """
    body = sentence.strip()
    start = sentence.find(body)
    before, after = sentence[:start], sentence[start + len(body) :]
    enclosed = _EMPHASIS.fullmatch(body) or _LINK.fullmatch(body)
    if enclosed and enclosed[1] not in enclosed[2]:
        before, body, after = before + enclosed[1], enclosed[2], enclosed[3] + after
    return [part for part in (before, body, after) if part]
