"""Takes emoji out of a text, because models lose or repeat them."""

from __future__ import annotations

import re
import unicodedata


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
