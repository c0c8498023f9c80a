"""Places the inline signs of Markdown in the translation of a sentence, and what placeholders stand for."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping

from compressor.text.projection import WORD, Inline, MarkedTranslation, Placed

LETTERS = ("X", "Y", "Z", "Q", "K", "XQ", "QX", "XQZ")
"""Beginnings of placeholders; models copy such words, above all between backticks, and know them as names."""

_NEAR = 20
"""Characters between an element's words and a placeholder that belongs to it."""


def placeholder(letters: str, number: int) -> str:
    """Returns what a model reads in place of something that stays as it is."""
    return f"`{letters}{number}`"


class SignedTranslation(MarkedTranslation):
    """The translation of a sentence of Markdown.

    What a placeholder stands for occurs once in the result, also if the model lost the placeholder, and again where
    the model repeats it.

    Args:
        text: The sentence without signs.
        output: Its translation.
        phrases: Translations of ``phrases_of``, and of the texts of images.
        root: The sentence with its elements.
        breaks: Offsets of spaces of the output, and what is to stand there.
        escaped: Characters that need a backslash.
    """

    most_words = 12

    def __init__(
        self,
        text: str,
        output: str,
        phrases: Mapping[str, str],
        root: Inline,
        breaks: Iterable[tuple[int, str]] = (),
        escaped: Iterable[str] = (),
    ) -> None:
        nodes = {text[node.start + 1 : node.end - 1].casefold(): node for node in _verbatim(root)}
        names = "|".join(sorted({name.rstrip("0123456789") for name in nodes})) or "(?!)"
        pattern = re.compile(rf"`?\b(?:{names})\d+\b`?|{WORD.pattern}", re.IGNORECASE)
        super().__init__(text, output, [(0, 0), (len(text), len(output))], phrases, word=pattern)
        self._root = root
        self._escaped = str.maketrans({character: f"\\{character}" for character in escaped})
        self._spans: dict[int, tuple[int, int]] = {}
        """Where the placeholders of elements are, by the ``id`` of the element."""
        events = [(offset, offset + 1, exact) for offset, exact in breaks]
        for start, end in self._words:
            node = nodes.get(output[start:end].strip("`").casefold())
            if node:
                events.append((start, end, node.opening if id(node) in self._spans else ""))
                self._spans.setdefault(id(node), (start, end))
        self._events = sorted(events)
        self._hulls: dict[int, tuple[int, int]] = {}
        self._cover(root)

    def render_sentence(self) -> str:
        """Returns the translation with the signs of the sentence."""
        return self.render(self._root)

    def _cover(self, node: Inline) -> tuple[int, int] | None:
        """Notes and returns the span of all placeholders inside an element; None if there is none."""
        spans = [span for child in node.children if (span := self._cover(child))]
        spans += [self._spans[id(node)]] if id(node) in self._spans else []
        if not spans:
            return None
        self._hulls[id(node)] = min(start for start, _ in spans), max(end for _, end in spans)
        return self._hulls[id(node)]

    def _fixed(self, node: Inline, low: int, high: int) -> tuple[int, int] | None:
        start, end = self._spans.get(id(node), (-1, -1))
        return (start, end) if low <= start and end <= high else None

    def _adjusted(self, placed: list[Placed], low: int, high: int) -> list[Placed]:
        return [self._around_placeholders(one, low, high) for one in placed]

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
        index = bisect_left(self._events, (edge,)) - 1
        return self._events[index][1] if index >= 0 and self._events[index][1] > edge else edge

    def _write(self, start: int, end: int) -> str:
        parts = []
        for index in range(bisect_left(self._events, (start,)), len(self._events)):
            first, last, exact = self._events[index]
            if last > end:
                break
            before = self._output[start:first].translate(self._escaped)
            is_gap = not exact and self._output[last : last + 1].isspace()
            parts += [before.removesuffix(" ") if is_gap else before, exact]
            start = last
        return "".join(parts) + self._output[start:end].translate(self._escaped)

    def _element(self, node: Inline, start: int, end: int) -> str:
        if node.is_verbatim:
            return self._verbatim_element(node, start, end)
        first, last = start, end
        while first < last and self._output[first].isspace():
            first += 1
        while last > first and self._output[last - 1].isspace():
            last -= 1
        inside = self._inside(node, first, last)
        opening, closing = node.opening, node.closing
        if not inside.strip() and node.start < node.end:
            if node.is_emphasis:
                opening = closing = ""
            else:
                inside = self._text[node.start : node.end]
        elif node.relabelled and inside != self._text[node.start : node.end]:
            closing = node.relabelled
        elif node.is_emphasis and opening[:1] == "_" and self._is_inside_word(first, last):
            opening, closing = opening.replace("_", "*"), closing.replace("_", "*")
        return self._write(start, first) + opening + inside + closing + self._write(last, end)

    def _verbatim_element(self, node: Inline, start: int, end: int) -> str:
        """Returns what a placeholder stands for, with spaces around it where the output has no placeholder."""
        if start < end:
            return node.opening
        before, after = self._output[start - 1 : start] if start else "", self._output[end : end + 1]
        return " " * before.isalnum() + node.opening + " " * after.isalnum()

    def _is_inside_word(self, start: int, end: int) -> bool:
        return self._output[max(0, start - 1) : start].isalnum() or self._output[end : end + 1].isalnum()


def _verbatim(root: Inline) -> Iterator[Inline]:
    """Yields the elements with a placeholder."""
    waiting: list[Inline] = [root]
    while waiting:
        node = waiting.pop()
        waiting += node.children
        if node.is_verbatim:
            yield node
