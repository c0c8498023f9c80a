"""Placeholders: what a model reads in place of code, addresses, and all else that stays as it is.

A model loses or changes such text, and without it the sentence is another one; short names in backticks it copies.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence

from compressor.text.projection import WORD, Anchor, Inline, MarkedTranslation, Placed

_LETTERS = ("X", "Y", "Z", "Q", "K", "XQ", "QX", "XQZ")
"""Beginnings of placeholders; models copy such words, above all between backticks, and know them as names."""

_ECHO = re.compile(r"((?:\b\w+ )?`[A-Z]{1,3}\d+`)(?:,? \1)+")

_NEAR = 20
"""Characters between an element's words and a placeholder that belongs to it."""


def free_letters(text: str) -> str:
    """Returns the beginning of placeholders in a text: letters before no digit there, if possible."""
    return next(one for one in _LETTERS if one == _LETTERS[-1] or not re.search(rf"{one}\d", text))


def placeholder(letters: str, number: int) -> str:
    """Returns what a model reads in place of something that stays as it is."""
    return f"`{letters}{number}`"


def without_echoes(output: str) -> str:
    """Returns an output without what a model wrote again at once: "from `X1` from `X1`"."""
    return _ECHO.sub(r"\1", output)


class PlaceholderTranslation(MarkedTranslation):
    """The translation of a text in which placeholders stand for verbatim elements.

    What a placeholder stands for occurs once in the result, also if the model lost the placeholder, and again where
    the model repeats it.

    Args:
        text: As for ``MarkedTranslation``.
        output: As there.
        anchors: As there.
        phrases: As there.
        root: The text with its elements.
        nbsp: As there.
    """

    def __init__(
        self,
        text: str,
        output: str,
        anchors: Sequence[Anchor],
        phrases: Mapping[str, str],
        root: Inline,
        nbsp: str = "&nbsp;",
    ) -> None:
        nodes = {text[node.start + 1 : node.end - 1].casefold(): node for node in _verbatim(root)}
        pattern = _word_pattern({name.rstrip("0123456789") for name in nodes}) if nodes else WORD
        super().__init__(text, output, anchors, phrases, nbsp, pattern)
        words = [(span, output[slice(*span)].strip("`").casefold()) for span in self._words] if nodes else []
        places = [(span, name) for span, name in words if name in nodes]
        own = _own_places(sorted(nodes, key=lambda name: nodes[name].start), [name for _, name in places])
        self._spans = {id(nodes[name]): places[index][0] for name, index in own.items()}
        """Where the placeholders of elements are, by the ``id`` of the element."""
        taken = set(own.values())
        self._exact = [(*span, "" if i in taken else nodes[name].opening) for i, (span, name) in enumerate(places)]
        """Spans of the output, in order, and what is to stand there."""
        self._hulls: dict[int, tuple[int, int]] = {}
        self._cover(root)

    def _cover(self, root: Inline) -> None:
        """Notes the span of all placeholders inside each element, the innermost elements first."""
        for node in reversed(list(_elements(root))):
            spans = [self._hulls[id(child)] for child in node.children if id(child) in self._hulls]
            spans += [self._spans[id(node)]] if id(node) in self._spans else []
            if spans:
                self._hulls[id(node)] = min(start for start, _ in spans), max(end for _, end in spans)

    def _fixed(self, node: Inline, low: int, high: int) -> tuple[int, int] | None:
        start, end = self._spans.get(id(node), (-1, -1))
        return (start, end) if low <= start and end <= high else None

    def _adjusted(self, placed: list[Placed], low: int, high: int) -> list[Placed]:
        return [self._around_placeholders(one, low, high) for one in placed] if self._exact else placed

    def _around_placeholders(self, placed: Placed, low: int, high: int) -> Placed:
        """Returns the place of an element, with the placeholders that belong to it, and no part of another one.

        If its words are not near them, the placeholders alone are its place.
        """
        start, end = (self._outside(edge) for edge in (placed.start, placed.end))
        hull = self._hulls.get(id(placed.node))
        if hull and not placed.node.is_verbatim:
            is_near = hull[0] - end <= _NEAR and start - hull[1] <= _NEAR
            start, end = (min(start, hull[0]), max(end, hull[1])) if is_near else hull
            start, end = max(low, start), min(high, end)
        return placed._replace(start=start, end=max(start, end))

    def _outside(self, edge: int) -> int:
        """Returns an edge, or the end of the placeholder that the edge is in."""
        index = bisect_left(self._exact, (edge,)) - 1
        return self._exact[index][1] if index >= 0 and self._exact[index][1] > edge else edge

    def _write(self, start: int, end: int) -> str:
        parts = []
        for index in range(bisect_left(self._exact, (start,)), len(self._exact)):
            first, last, exact = self._exact[index]
            if last > end:
                break
            before = super()._write(start, first)
            is_gap = not exact and self._output[last : last + 1].isspace()
            parts += [before.removesuffix(" ") if is_gap else before, exact]
            start = last
        return "".join(parts) + super()._write(start, end)

    def _element(self, node: Inline, start: int, end: int) -> str:
        if not node.is_verbatim:
            return super()._element(node, start, end)
        if start < end:
            return node.opening
        before, after = self._output[start - 1 : start] if start else "", self._output[end : end + 1]
        return " " * _is_word_or_code(before) + node.opening + " " * _is_word_or_code(after)


def _word_pattern(letters: Iterable[str]) -> re.Pattern[str]:
    """Returns what one word of an output is: a placeholder, letters without one, or a sign."""
    name = rf"`?(?<![A-Za-z0-9])(?:{'|'.join(sorted(letters))})\d+(?![A-Za-z0-9])`?"
    word = rf"(?:(?!{name})\w)+"
    return re.compile(rf"{name}|{word}(?:[-'’]{word})*|[^\w\s]", re.IGNORECASE)


def _own_places(names: Sequence[str], written: Sequence[str]) -> dict[str, int]:
    """Returns for placeholders the index of their place in an output.

    One that the output lacks gets a place of one that the output has too often: models confuse those of a list.

    Args:
        names: Placeholders in the order of the source.
        written: Those of the output, in its order.
    """
    scale = len(written) / max(1, len(names))
    places: dict[str, list[int]] = {}
    for index, name in enumerate(written):
        places.setdefault(name, []).append(index)
    own: dict[str, int] = {}
    for number, name in enumerate(names):
        if name in places:
            distances = [abs(index - number * scale) for index in places[name]]
            own[name] = places[name][distances.index(min(distances))]
    surplus = sorted(set(range(len(written))) - set(own.values()))
    return own | dict(zip((name for name in names if name not in own), surplus, strict=False))


def _is_word_or_code(character: str) -> bool:
    return character.isalnum() or character == "`"


def _elements(root: Inline) -> Iterator[Inline]:
    """Yields the elements, each before those inside it."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        waiting += node.children
        yield node


def _verbatim(root: Inline) -> Iterator[Inline]:
    """Yields the elements with a placeholder."""
    return (node for node in _elements(root) if node.is_verbatim)
