"""One example, and when two sources count as the same."""

from __future__ import annotations

import re
from typing import NamedTuple

_NOT_WORD = re.compile(r"[\W_]+")


class Example(NamedTuple):
    """A source text with its reference, or without one (monolingual data)."""

    source: str
    target: str | None = None


def source_key(text: str) -> str:
    """What is compared to tell whether two sources are the same: the text without case and punctuation."""
    return " ".join(_NOT_WORD.sub(" ", text.casefold()).split()) or text
