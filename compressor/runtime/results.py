"""What generation returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Result:
    """One output."""

    text: str
    token_ids: list[int]
    """With the end of sentence, where the model ended it."""
    input_tokens: int
    output_tokens: int
    truncated: bool
    """Whether the source was cut."""
    finish_reason: Literal["eos", "length"]
    score: float | None = None
    """Log-probability divided by length to the length penalty; of beam search alone."""
    alternatives: tuple[Alternative, ...] = ()
    """The next best outputs, if more than one was asked for."""


@dataclass(frozen=True)
class Alternative:
    """Another output of the same source."""

    text: str
    token_ids: list[int]
    score: float


@dataclass(frozen=True)
class ScoredTokens:
    """Token ids of an output, and its score (None: greedy search gives none)."""

    token_ids: list[int]
    score: float | None
