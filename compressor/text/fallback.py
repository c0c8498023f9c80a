"""The tokens that spell a text for which a vocabulary has nothing longer."""

from __future__ import annotations

import re
from collections.abc import Mapping

BYTE_PIECE = re.compile("<0x[0-9A-F]{2}>")
"""A byte in a SentencePiece vocabulary."""

WORD_MARKS = ("▁", "##")
"""What a token begins with besides its characters: SentencePiece's at the start of a word, WordPiece's inside one."""


def fallback_ids(vocab: Mapping[str, int]) -> set[int]:
    """Returns the ids of bytes and of single characters, with or without the mark of a word."""
    return {index for token, index in vocab.items() if _characters(token) <= 1 or BYTE_PIECE.fullmatch(token)}


def _characters(token: str) -> int:
    return min(len(token.removeprefix(mark)) for mark in WORD_MARKS)
