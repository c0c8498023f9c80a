"""Greedy decoding of one text token by token, through the ``encoder`` and ``decoder_step`` graphs.

Inputs and outputs are matched by name: the encoder's output ``x`` is the step's input ``x``, and the step's output
``next_x`` is its input ``x`` at the next step. An input without a ``next_x`` (keys and values of the source) does not
change.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

Deltas = Generator[str, None, list[int]]
"""Pieces of an output as it is decoded; the return value is the token ids of all of it."""

_NEXT = "next_"


def first_feeds(
    encoder: Any, decoder_step: Any, input_ids: Any, attention_mask: Any, options: dict[str, Any]
) -> dict[str, Any]:
    """Runs the encoder and returns the inputs of the first decoder step, by name.

    Args:
        encoder: Session of the encoder graph.
        decoder_step: Session of the step graph.
        input_ids: int64 [1, source_len].
        attention_mask: int64 [1, source_len], 1 where there is a token.
        options: Search options, from ``Search.feeds``.
    """
    names = [output.name for output in encoder.get_outputs()]
    values = encoder.run(names, {"input_ids": input_ids, "attention_mask": attention_mask})
    available = {**dict(zip(names, values, strict=True)), **options, "step": np.array(0, np.int64)}
    return {name: available[name] for name in (argument.name for argument in decoder_step.get_inputs())}


def advance(decoder_step: Any, feeds: dict[str, Any], wanted: Sequence[str] = ()) -> list[Any]:
    """Runs one step, updates ``feeds`` in place for the next one, and returns the outputs named ``wanted``."""
    carried = [output.name for output in decoder_step.get_outputs() if output.name.startswith(_NEXT)]
    outputs: list[Any] = decoder_step.run([*wanted, *carried], feeds)
    feeds |= {name.removeprefix(_NEXT): value for name, value in zip(carried, outputs[len(wanted) :], strict=True)}
    return outputs[: len(wanted)]


def greedy_tokens(decoder_step: Any, feeds: dict[str, Any], limit: int) -> Iterator[int]:
    """Yields the output tokens of one source, end of sentence included.

    Args:
        decoder_step: Session of the step graph.
        feeds: From ``first_feeds``; updated in place.
        limit: Maximum number of tokens.
    """
    for _ in range(limit):
        advance(decoder_step, feeds)
        yield int(feeds["sequences"][0, -1])
        if not feeds["open"][0]:
            return


def text_deltas(tokens: Iterable[int], decode: Callable[[list[int]], str]) -> Deltas:
    """Yields pieces of text as tokens arrive, and returns the tokens; together they equal ``decode`` of all tokens.

    A token can change the text before it (a character of several bytes, a space that the tokenizer removes). So a piece
    holds only text on which two successive decodings agree, without a space or an incomplete character at its end.
    """
    ids: list[int] = []
    before, sent = "", ""
    for token in tokens:
        ids.append(token)
        now = decode(ids)
        stable = _common_prefix(before, now).rstrip("\ufffd").rstrip()
        if len(stable) > len(sent):
            yield stable[len(sent) :]
            sent = stable
        before = now
    if len(before) > len(sent):
        yield before[len(sent) :]
    return ids


def _common_prefix(first: str, second: str) -> str:
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    return "".join(character for character, _ in pairs)
