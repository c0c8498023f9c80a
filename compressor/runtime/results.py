"""Results of generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["eos", "length", "repetition"]
"""Why an output ended: the model ended it, it reached its limit, or it went round in a loop and was cut there."""


@dataclass(frozen=True)
class Result:
    """Best output of one text.

    ``score`` and ``alternatives`` of a text with several sentences are those of its ``sentences``.
    """

    text: str
    token_ids: list[int]
    """Output tokens, with EOS if the model generated it; a loop is cut back to its first occurrence."""
    input_tokens: int
    output_tokens: int
    truncated: bool
    """Whether the source was cut."""
    finish_reason: FinishReason
    score: float | None = None
    """Log-probability / length ** length_penalty; None for greedy search."""
    alternatives: tuple[Alternative, ...] = ()
    """The next best outputs, if ``num_return_sequences`` is above 1."""
    dropped_tokens: int = 0
    """Source tokens that were cut off."""
    sentences: tuple[Result, ...] = ()
    """Results of the sentences of a text that has several: the text's counts are their sums."""

    def stops(self, reason: FinishReason) -> int:
        """Returns the number of sentences whose output ended for a reason."""
        return sum(sentence.finish_reason == reason for sentence in self.sentences or (self,))


@dataclass(frozen=True)
class Alternative:
    """Another hypothesis of the same source."""

    text: str
    token_ids: list[int]
    score: float


@dataclass(frozen=True)
class ScoredTokens:
    """Token ids of an output and its score (None for greedy search)."""

    token_ids: list[int]
    score: float | None
