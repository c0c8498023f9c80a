"""Text as it is decoded, token by token, through the ``encoder`` and ``decoder_step`` graphs.

The graphs name what goes where: the encoder's output ``x`` is the step's input ``x``, and the step's output ``next_x``
is its next input ``x``; what has no ``next_x`` (keys and values of the source) stays.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

_NEXT = "next_"


def first_feeds(
    encoder: Any, decoder_step: Any, input_ids: Any, attention_mask: Any, options: dict[str, Any]
) -> dict[str, Any]:
    """What the first step is fed: reads the source once.

    Args:
        encoder: Session of the encoder graph.
        decoder_step: Session of the step graph.
        input_ids: int64 [1, source_len], as ``attention_mask``.
        attention_mask: 1 where there is a token.
        options: From ``Search.feeds``.
    """
    names = [output.name for output in encoder.get_outputs()]
    values = encoder.run(names, {"input_ids": input_ids, "attention_mask": attention_mask})
    given = {**dict(zip(names, values, strict=True)), **options, "step": np.array(0, np.int64)}
    return {name: given[name] for name in (argument.name for argument in decoder_step.get_inputs())}


def advance(decoder_step: Any, feeds: dict[str, Any], wanted: Sequence[str] = ()) -> list[Any]:
    """Makes a step, puts what it hands on into ``feeds``, and returns the outputs ``wanted``."""
    carried = [output.name for output in decoder_step.get_outputs() if output.name.startswith(_NEXT)]
    outputs: list[Any] = decoder_step.run([*wanted, *carried], feeds)
    feeds |= {name.removeprefix(_NEXT): value for name, value in zip(carried, outputs[len(wanted) :], strict=True)}
    return outputs[: len(wanted)]


def greedy_tokens(decoder_step: Any, feeds: dict[str, Any], limit: int) -> Iterator[int]:
    """Yields the tokens of one source, end of sentence included, from ``first_feeds``."""
    for _ in range(limit):
        advance(decoder_step, feeds)
        yield int(feeds["sequences"][0, -1])
        if not feeds["open"][0]:
            return


def text_deltas(tokens: Iterable[int], decode: Callable[[list[int]], str]) -> Iterator[str]:
    """Turns tokens into pieces of text whose concatenation is ``decode`` of them all.

    A token can change the text before it (a character of several bytes, a space that a tokenizer takes back), so only
    what two successive decodings agree on is handed out, and never the space or the broken character at its end.
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


def _common_prefix(first: str, second: str) -> str:
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    return "".join(character for character, _ in pairs)
