"""Places the inline tags of a text in its translation, which has other words in another order."""

from __future__ import annotations

import html
import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from compressor.text.word_runs import CONTENT, common_runs, extended

Anchor = tuple[int, int]
"""An offset in a text, and the offset in its translation that belongs to it."""

WORD = re.compile(r"\w+(?:[-'’]\w+)*|[^\w\s]")
_PHRASE = re.compile(r"[^\W_](?:.{0,138}[^\W_])?")
_PLACEHOLDER = re.compile(r"\s*`[A-Z]{1,3}\d+`")
PHRASE_WORDS = 5
_WORD_BEFORE, _WORD_AFTER = re.compile(r"\w*$"), re.compile(r"\w*")
_EDGES = " .,;:!?"
_NEAR = 400
"""Characters on both sides of an element's proportional place in which its words are looked for."""
_MOST_CHILDREN = 50
"""Of a parent with more, all are placed in proportion, which takes linear time."""


@dataclass
class Inline:
    """A tag, an element, or white space inside a line of text.

    Attributes:
        start: Its first character in the text.
        end: The character after its last; ``start`` for a tag without text.
        opening: What stands before its text in the source, exactly.
        closing: What stands after it.
        children: Tags, elements and white space inside it, in order.
        is_space: It is white space of the source that the text has as one space, and ``opening`` is that white space.
        is_verbatim: Its text in the line is a placeholder, and ``opening`` is what stands there in the source.
        is_emphasis: Without text it is nothing.
        relabelled: What stands after its text if the translation has another text; empty: ``closing``.
    """

    start: int
    end: int
    opening: str = ""
    closing: str = ""
    children: list[Inline] = field(default_factory=list)
    is_space: bool = False
    is_verbatim: bool = False
    is_emphasis: bool = False
    relabelled: str = ""


class Placed(NamedTuple):
    """Where in the output an element is, and its number among the children of its parent."""

    start: int
    end: int
    order: int
    node: Inline


def phrases_of(text: str, root: Inline, most_words: int = PHRASE_WORDS) -> list[str]:
    """Returns the texts of elements whose translation by itself helps to place them: some whole words of a line."""
    phrases = []
    waiting = list(reversed(root.children))
    while waiting:
        node = waiting.pop()
        waiting += reversed(node.children)
        phrase = _phrase(text, node)
        is_part = len(phrase) < len(text.strip(_EDGES))
        if is_part and _PHRASE.fullmatch(phrase) and len(phrase.split()) <= most_words and _is_whole(text, node):
            phrases.append(phrase)
    return phrases


class MarkedTranslation:
    """A translation, and the way to it from the marked text.

    Offsets between two anchors are in proportion. An element's words are looked up by their own translation.

    Args:
        text: The text.
        output: Its translation.
        anchors: Offsets that belong together, in order; the ends of both are two of them.
        phrases: Translations of ``phrases_of``, and of texts that are the same in both.
        nbsp: How the markup writes a space without a break.
        word: What one word of the output is; None: letters, or a sign.
    """

    most_words = PHRASE_WORDS
    """Words of a phrase that is looked up."""

    def __init__(
        self,
        text: str,
        output: str,
        anchors: Sequence[Anchor],
        phrases: Mapping[str, str],
        nbsp: str = "&nbsp;",
        word: re.Pattern[str] | None = None,
    ) -> None:
        self._text, self._output = text, output
        self._sources = [source for source, _ in anchors]
        self._targets = [target for _, target in anchors]
        self._phrases = phrases
        self._nbsp, self._word = nbsp, word or WORD
        matches = list(self._word.finditer(output))
        self._words = [match.span() for match in matches]
        self._folded = [match[0].casefold() for match in matches]
        self._owners: list[Inline | None] = [None] * len(matches)
        """For each word, the element among whose children it was given out last."""

    def render(self, root: Inline) -> str:
        """Returns the translation with the markup of the text. Every tag occurs once, and no text is lost."""
        return self._inside(root, 0, len(self._output))

    def _inside(self, parent: Inline, low: int, high: int) -> str:
        """Returns the markup of ``output[low:high]``, which is the text of ``parent``."""
        parts, cursor = [], low
        for start, end, _, node in self._place(parent, low, high):
            parts += [self._write(cursor, start), self._element(node, start, end)]
            cursor = end
        return "".join(parts) + self._write(cursor, high)

    def _element(self, node: Inline, start: int, end: int) -> str:
        """Returns the markup of an element whose text in the output is ``output[start:end]``."""
        return node.opening if node.is_space else node.opening + self._inside(node, start, end) + node.closing

    def _write(self, start: int, end: int) -> str:
        """Returns a part of the output without elements as the source writes such text."""
        return self._plain(self._output[start:end])

    def _plain(self, text: str) -> str:
        """Returns text as the source would write it."""
        return html.escape(text, quote=False).replace("\xa0", self._nbsp)

    def _fixed(self, node: Inline, low: int, high: int) -> tuple[int, int] | None:
        """Returns where the placeholder of a verbatim element is, if it is between the two offsets."""
        return None

    def _adjusted(self, placed: list[Placed], low: int, high: int) -> list[Placed]:
        """Returns the places of elements as they are before overlaps are cut."""
        return placed

    def _place(self, parent: Inline, low: int, high: int) -> list[Placed]:
        """Returns the places of the children of ``parent``, which do not overlap, in the order of the output.

        What its own translation tells is placed first, then other elements, then tags and white space between them.
        """
        if len(parent.children) > _MOST_CHILDREN:
            return _without_overlaps(self._adjusted(self._in_proportion(parent, low, high), low, high), low)
        placed: list[Placed] = []
        rest: list[tuple[int, Inline]] = []
        for order, node in enumerate(parent.children):
            has_text = node.start < node.end and not (node.is_space or node.is_verbatim)
            if has_text and (node.start, node.end) == (parent.start, parent.end):
                placed.append(Placed(low, high, order, node))
            elif span := self._look_up(parent, node, low, high):
                placed.append(Placed(*span, order, node))
            else:
                rest.append((order, node))
        for is_narrow in (False, True):
            gaps = _gaps(placed, low, high)
            for order, node in rest:
                if is_narrow == (node.is_space or node.is_verbatim or node.start == node.end) and (
                    span := self._between(parent, node, gaps)
                ):
                    placed.append(Placed(*span, order, node))
        return _without_overlaps(self._adjusted(placed, low, high), low)

    def _in_proportion(self, parent: Inline, low: int, high: int) -> list[Placed]:
        """Returns the proportional places of all children; white space without a space nearby is left out."""
        placed = []
        for order, node in enumerate(parent.children):
            span: tuple[int, int] | None
            if node.is_verbatim:
                span = self._fixed(node, low, high) or ((round(self.at(node.start)),) * 2)
            elif node.is_space:
                span = self._space_near(self.at(node.start), low, high)
            else:
                span = round(self.at(node.start)), round(self.at(node.end))
            if span:
                start, end = (min(max(edge, low), high) for edge in span)
                placed.append(Placed(start, end, order, node))
        return placed

    def _space_near(self, at: float, low: int, high: int) -> tuple[int, int] | None:
        """Returns the space of the output that is nearest to a place, or None."""
        low, high, middle = max(low, int(at) - _NEAR), min(high, int(at) + _NEAR), max(low, round(at))
        places = [self._output.rfind(" ", low, middle + 1), self._output.find(" ", middle, high)]
        place = min(filter(lambda place: place >= 0, places), key=lambda place: abs(place - at), default=None)
        return None if place is None or place >= high else (place, place + 1)

    def _look_up(self, parent: Inline, node: Inline, low: int, high: int) -> tuple[int, int] | None:
        """Returns where the element's own translation, or most of it, occurs in the output, nearest to its place."""
        if node.is_verbatim:
            return self._fixed(node, low, high)
        phrase = _phrase(self._text, node)
        if node.is_space or not phrase:
            return None
        if not _is_whole(self._text, node):
            return self._in_same_word(node, low, high)
        if len(phrase.split()) > self.most_words:
            return None
        wanted = (self.at(node.start) + self.at(node.end)) / 2
        low, high = max(low, int(wanted) - _NEAR), min(high, int(wanted) + _NEAR)
        near = self._words_in(low, high)
        words, owners = self._words[near], self._owners[near]
        free = [None if owner is parent else word for word, owner in zip(self._folded[near], owners, strict=True)]
        for candidate in (self._phrases.get(phrase, "").strip(_EDGES), phrase):
            target = [word.casefold() for word in self._word.findall(candidate)[: 2 * self.most_words]]
            runs = [
                (first - last, abs(words[first][0] + words[last - 1][1] - 2 * wanted), (first, last, place))
                for first, last, place in common_runs(target, free)
                if last - first == len(target) or any(len(word or "") >= CONTENT for word in free[first:last])
            ]
            if runs:
                first, last = extended(min(runs)[-1], target, free)
                for index in range(near.start + first, near.start + last):
                    self._owners[index] = parent
                return self._with_edges(node, (words[first][0], words[last - 1][1]), low, high)
        return None

    def _in_same_word(self, node: Inline, low: int, high: int) -> tuple[int, int] | None:
        """Returns the place of an element that is a part of a word, if the output has the word, too: H<sub>2</sub>O."""
        before = _WORD_BEFORE.search(self._text[max(0, node.start - _NEAR) : node.start])
        after = _WORD_AFTER.match(self._text[node.end : node.end + _NEAR])
        assert before and after  # they match no character, too
        word = before[0] + self._text[node.start : node.end] + after[0]
        wanted = self.at(node.start) - len(before[0])
        low, high = max(low, int(wanted) - _NEAR), min(high, int(wanted) + _NEAR)
        places = [match.start() for match in re.compile(rf"\b{re.escape(word)}\b").finditer(self._output, low, high)]
        if not places or " " in word:
            return None
        start = min(places, key=lambda place: abs(place - wanted)) + len(before[0])
        return start, start + node.end - node.start

    def _likely_words(
        self, words: Sequence[tuple[int, int]], text: str, start: float, end: float
    ) -> list[tuple[int, int]]:
        """Returns the words between two offsets, and at least one; signs at their edges only if the text has some.

        For a single word with a capital, which often is a noun or a name, that is a long word.
        """

        def distance(word: tuple[int, int]) -> float:
            return abs(sum(word) - start - end)

        alphanumeric = [word for word in words if self._output[word[0]].isalnum()]
        inside = [word for word in words if start <= sum(word) / 2 <= end]
        while inside and text[:1].isalnum() and not self._output[inside[0][0]].isalnum():
            del inside[0]
        while inside and text[-1:].isalnum() and not self._output[inside[-1][0]].isalnum():
            del inside[-1]
        if text[:1].isupper() and len(text) >= CONTENT and text.isalnum():
            long = [word for word in alphanumeric if word[1] - word[0] >= CONTENT]
            if long and not any(word in long for word in inside):
                return [min(long, key=distance)]
        return inside or [min(alphanumeric or words, key=distance)]

    def _words_in(self, low: int, high: int) -> slice:
        """Returns the indices of the words that lie between two offsets."""
        first = bisect_left(self._words, (low, low))
        last = bisect_left(self._words, (high, high), first)
        return slice(first, last - 1 if last > first and self._words[last - 1][1] > high else last)

    def _with_edges(self, node: Inline, span: tuple[int, int], low: int, high: int) -> tuple[int, int]:
        """Returns a span with the signs and spaces at its edges that the element has at its own."""
        text, (start, end) = self._text[node.start : node.end], span
        before = text[: len(text) - len(text.lstrip(_EDGES))]
        after = text[len(text.rstrip(_EDGES)) :]
        if before and self._output[max(low, start - len(before)) : start] == before:
            start -= len(before)
        if after and self._output[end : min(high, end + len(after))] == after:
            end += len(after)
        return start, end

    def _between(self, parent: Inline, node: Inline, gaps: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
        """Returns the place of a child in the gap nearest to its proportional place; None for white space without."""
        start, end = self.at(node.start), self.at(node.start if node.is_verbatim else node.end)
        center = (start + end) / 2
        low, high = min(gaps, key=lambda gap: max(gap[0] - center, center - gap[1], 0))
        low, high = max(low, min(high, int(start) - _NEAR)), min(high, max(low, int(end) + _NEAR))
        if node.is_space:
            return self._space_near(start, low, high)
        start, end = min(max(start, low), high), min(max(end, low), high)
        words = self._words[self._words_in(low, high)]
        if node.start == node.end or node.is_verbatim:
            if node.start in (parent.start, parent.end) or not _is_boundary(self._text, node.start):
                return (round(start),) * 2
            if self._text[node.start - 1] == " ":
                edges = [high, *(first for first, _ in words if self._output[first - 1 : first] in ("", " "))]
            else:
                edges = [low, *(last for _, last in words)]
            return (min(edges, key=lambda edge: abs(edge - start)),) * 2
        first, last = round(start), round(end)
        if words and _is_whole(self._text, node):
            inside = self._likely_words(words, self._text[node.start : node.end].strip(), start, end)
            spaces_before, spaces_after = _spaces(self._text[node.start : node.end])
            first = _grow(self._output, inside[0][0], -1, spaces_before, low)
            last = _grow(self._output, inside[-1][1], 1, spaces_after, high)
        elif first == last < high:
            last += 1
        return first, last

    def at(self, offset: int) -> float:
        """Returns the offset in the output that is in proportion between the nearest anchors."""
        index = min(max(bisect_right(self._sources, offset), 1), len(self._sources) - 1)
        source, after = self._sources[index - 1], self._sources[index]
        target, target_after = self._targets[index - 1], self._targets[index]
        if after == source:
            return target
        return target + (offset - source) / (after - source) * (target_after - target)


def _gaps(placed: Sequence[Placed], low: int, high: int) -> list[tuple[int, int]]:
    """Returns the spans between ``low`` and ``high`` in which nothing is placed, empty ones included."""
    gaps, cursor = [], low
    for one in sorted(placed):
        gaps.append((cursor, max(cursor, one.start)))
        cursor = max(cursor, one.end)
    return [*gaps, (cursor, max(cursor, high))]


def _without_overlaps(placed: Sequence[Placed], low: int) -> list[Placed]:
    ordered, cursor = [], low
    for start, end, order, node in sorted(placed, key=lambda one: (one.start, one.order)):
        start = max(start, cursor)
        cursor = max(start, end)
        ordered.append(Placed(start, cursor, order, node))
    return ordered


def _phrase(text: str, node: Inline) -> str:
    """Returns the words of an element, without placeholders and signs around them."""
    return _PLACEHOLDER.sub("", text[node.start : node.end]).strip(_EDGES)


def _is_boundary(text: str, offset: int) -> bool:
    """Returns whether an offset is not inside a word."""
    return not (0 < offset < len(text) and text[offset - 1].isalnum() and text[offset].isalnum())


def _is_whole(text: str, node: Inline) -> bool:
    return _is_boundary(text, node.start) and _is_boundary(text, node.end)


def _spaces(text: str) -> tuple[int, int]:
    """Returns the numbers of spaces at both ends of a text."""
    return len(text) - len(text.lstrip(" ")), len(text) - len(text.rstrip(" "))


def _grow(output: str, edge: int, step: int, most: int, limit: int) -> int:
    """Returns an edge moved over at most ``most`` spaces."""
    for _ in range(most):
        place = edge if step > 0 else edge - 1
        if edge == limit or output[place] != " ":
            break
        edge += step
    return edge
