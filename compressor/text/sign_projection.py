"""Places the inline signs of Markdown in the translation of a sentence, and what placeholders stand for."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence

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
        pattern = _word_pattern({name.rstrip("0123456789") for name in nodes}) if nodes else WORD
        super().__init__(text, output, [(0, 0), (len(text), len(output))], phrases, word=pattern)
        self._root = root
        self._escaped = str.maketrans({character: f"\\{character}" for character in escaped})
        words = [(span, output[slice(*span)].strip("`").casefold()) for span in self._words]
        places = [(span, name) for span, name in words if name in nodes]
        own = _own_places(sorted(nodes, key=lambda name: nodes[name].start), [name for _, name in places])
        self._spans = {id(nodes[name]): places[index][0] for name, index in own.items()}
        """Where the placeholders of elements are, by the ``id`` of the element."""
        events = [(offset, offset + 1, exact) for offset, exact in breaks]
        taken = set(own.values())
        events += [(*span, "" if i in taken else nodes[name].opening) for i, (span, name) in enumerate(places)]
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
            elif opening == "[":
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
        return " " * _is_word_or_code(before) + node.opening + " " * _is_word_or_code(after)

    def _is_inside_word(self, start: int, end: int) -> bool:
        return self._output[max(0, start - 1) : start].isalnum() or self._output[end : end + 1].isalnum()


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


def _verbatim(root: Inline) -> Iterator[Inline]:
    """Yields the elements with a placeholder."""
    waiting: list[Inline] = [root]
    while waiting:
        node = waiting.pop()
        waiting += node.children
        if node.is_verbatim:
            yield node
