"""Encodes sources as token ids and checks them against the limits of a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from compressor.bundle import Manifest
from compressor.errors import InputError, TooLongError
from compressor.text.tokenizer import Tokenizer

Truncation = Literal["error", "longest_first"]
"""Treatment of a source over the limit: raise an error, or cut it."""


class Source(NamedTuple):
    """A text as token ids."""

    token_ids: list[int]
    """Empty for a blank text."""
    truncated: bool
    """Whether the text was cut."""


def check_text(index: int, text: object) -> None:
    """Raises InputError if a text is no string or no valid Unicode."""
    if not isinstance(text, str):
        raise InputError("{text} is not a string", index=index)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{{text}}: no valid Unicode at character {error.start + 1}", index=index) from None


class SourceEncoder:
    """Encodes texts for a bundle, and checks the token ids of a caller."""

    def __init__(self, tokenizer: Tokenizer, manifest: Manifest) -> None:
        self._tokenizer, self._manifest = tokenizer, manifest

    def encode(self, texts: Sequence[str], truncation: Truncation) -> list[Source]:
        """Returns the token ids of each text.

        Raises:
            TooLongError: texts are over the limit and are not to be cut; has the index and length of each.
            InputError: a text is no string or no valid Unicode, or ``truncation`` is unknown.
        """
        return self._cut_all([self._encode(index, text) for index, text in enumerate(texts)], truncation)

    def check(self, sources: Sequence[Sequence[int]], truncation: Truncation) -> list[Source]:
        """Returns sources given as token ids. Raises as ``encode``, and for ids outside the vocabulary."""
        return self._cut_all([self._check_ids(index, ids) for index, ids in enumerate(sources)], truncation)

    def _encode(self, index: int, text: str) -> list[int]:
        """Returns the token ids of a text, none if it is blank.

        Raises:
            InputError: it is no string, no valid Unicode, or encodes to ids outside the vocabulary.
        """
        check_text(index, text)
        return self._check_ids(index, self._tokenizer.encode_source(text)) if text.strip() else []

    def _check_ids(self, index: int, ids: Sequence[int]) -> list[int]:
        """Returns the ids of a source. Raises InputError if there are none or one is outside the vocabulary."""
        source, vocab_size = list(ids), self._manifest.vocab_size
        if not source:
            raise InputError("{text} has no tokens", index=index)
        if wrong := [token for token in source if not 0 <= token < vocab_size]:
            message = f"{{text}}: token id {wrong[0]} is outside the vocabulary (0 to {vocab_size - 1})"
            raise InputError(message, index=index, actual=wrong[0], limit=vocab_size - 1)
        return source

    def _cut_all(self, sources: Sequence[list[int]], truncation: Truncation) -> list[Source]:
        """Returns the sources, cut to the model's limit; a cut source still ends with the tokenizer's suffix.

        Raises:
            InputError: ``truncation`` is unknown.
            TooLongError: it is ``error``, and sources are longer; has the index and length of each.
        """
        if truncation not in ("error", "longest_first"):
            message = f"{{truncation}} is {truncation!r}: give 'error' or 'longest_first'"
            raise InputError(message, option="truncation", actual=truncation)
        limit = self._manifest.max_source_tokens
        too_long = [(index, len(ids)) for index, ids in enumerate(sources) if len(ids) > limit]
        if too_long and truncation == "error":
            raise TooLongError(too_long, limit)
        return [Source(ids, False) if len(ids) <= limit else Source(self._cut(ids), True) for ids in sources]

    def _cut(self, ids: list[int]) -> list[int]:
        """Returns the first tokens of a source over the limit, and its suffix if it has one."""
        limit, suffix = self._manifest.max_source_tokens, list(self._tokenizer.frame.source_suffix_ids)
        ending = suffix if suffix and ids[-len(suffix) :] == suffix else []
        return ids[: limit - len(ending)] + ending

    def check_prefixes(
        self, prefixes: Sequence[Sequence[int]] | None, limits: Sequence[int]
    ) -> Sequence[Sequence[int]]:
        """Returns one prefix for each source. Raises InputError for ids outside the vocabulary or too many tokens."""
        if prefixes is None:
            return [[] for _ in limits]
        if len(prefixes) != len(limits):
            message = f"there are {len(limits)} sources and {len(prefixes)} prefixes: give one a source"
            raise InputError(message, option="prefixes")
        rules, vocab_size = self._manifest.generation, self._manifest.vocab_size
        for number, (ids, limit) in enumerate(zip(prefixes, limits, strict=True), 1):
            if wrong := [token for token in ids if not 0 <= token < vocab_size or token == rules.eos_id]:
                message = f"prefix {number}: token id {wrong[0]} is no token of an output that goes on"
                raise InputError(message, option="prefixes", actual=wrong[0])
            if len(ids) >= limit:
                raise InputError(
                    f"prefix {number} has {len(ids)} tokens, and {{max_new_tokens}} is {limit}: it must be longer",
                    option="prefixes",
                    actual=len(ids),
                    limit=limit,
                    options=["max_new_tokens"],
                )
        return prefixes
