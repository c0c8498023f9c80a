"""An example of a corpus, and the key by which duplicate sources are recognized."""

from __future__ import annotations

import re
from typing import NamedTuple

_NOT_WORD = re.compile(r"[\W_]+")


class Example(NamedTuple):
    """A source text and its reference; ``target`` is None for monolingual data."""

    source: str
    target: str | None = None


def source_key(text: str) -> str:
    """The text without case and punctuation; two sources with the same key are duplicates."""
    return " ".join(_NOT_WORD.sub(" ", text.casefold()).split()) or text
