"""Sentences of a text, with the line breaks and inline signs that the text has within them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from compressor.text.copied import needs_translation
from compressor.text.markdown import SignKind
from compressor.text.placeholders import without_echoes
from compressor.text.projection import Inline, phrases_of
from compressor.text.sign_projection import SignedTranslation

_DEEPEST = 64
"""Elements inside each other; the signs of deeper ones are placed one by one."""
_MOST_PHRASES = 50
"""Phrases of one sentence that are translated by themselves."""


class Mark(NamedTuple):
    """An inline sign of a sentence.

    Attributes:
        at: Its place in ``Sentence.flat``.
        length: Characters that stand for it there: none for a sign, a placeholder for code or an image, the character
            itself for one that was escaped.
        raw: The sign as it was.
        kind: As that of ``Sign``.
        element: Number that both signs of an element have.
        written: The sign where the text of its element is another.
        alt: The text of an image.
        is_emphasis: It is of asterisks, underscores or tildes.
    """

    at: int
    length: int
    raw: str
    kind: SignKind
    element: int = -1
    written: str = ""
    alt: str = ""
    is_emphasis: bool = False


@dataclass(frozen=True)
class Sentence:
    """A piece of text that a model is to read."""

    flat: str
    """The text without inline signs, and with a space in place of each line break."""
    breaks: tuple[tuple[int, str], ...] = ()
    """Offsets of these spaces in ``flat``, and what stands there: white space, the line break, and signs after it."""
    marks: tuple[Mark, ...] = ()
    """The inline signs, in order."""

    @property
    def text(self) -> str:
        """The text as it was."""
        return "".join(raw for raw, _ in self._exact())

    @property
    def phrases(self) -> list[str]:
        """Texts whose own translations help to place the signs, or stand inside them."""
        if not self.marks:
            return []
        phrases = dict.fromkeys(phrases_of(self.flat, self._tree({}), SignedTranslation.most_words))
        images = [mark.alt for mark in self.marks if mark.alt]
        return [phrase for phrase in [*images, *phrases] if needs_translation(phrase)][:_MOST_PHRASES]

    def cut(self, parts: Iterable[str]) -> list[Piece]:
        """Returns sentences without surrounding white space and signs, and what stands around them.

        Args:
            parts: Parts of ``flat``; joined, they are ``flat``.
        """
        spans: list[tuple[int, int]] = []
        start = 0
        for part in parts:
            end = start + len(part)
            first = end - len(part.lstrip())
            last = max(first, start + len(part.rstrip()))
            spans += [span for span in ((start, first), (first, last), (last, end)) if span[0] < span[1]]
            start = end
        if not self.flat:
            return [self.text]
        if self.marks:
            return [piece for sentence in self._divided(self._around_placeholders(spans)) for piece in sentence.bare()]
        divided = self._divided(spans)
        return [sentence if needs_translation(sentence.flat) else sentence.text for sentence in divided]

    def _around_placeholders(self, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Returns the spans with none that ends inside a placeholder."""
        ends = {at: mark.at + mark.length for mark in self.marks for at in range(mark.at + 1, mark.at + mark.length)}
        moved = [(ends.get(start, start), ends.get(end, end)) for start, end in spans]
        return [span for span in moved if span[0] < span[1]]

    def _divided(self, spans: list[tuple[int, int]]) -> Iterator[Sentence]:
        """Yields the parts of the sentence. Signs between two belong to the first up to the last closing one."""
        breaks, marks, mark = list(reversed(self.breaks)), self.marks, 0
        for begin, end in spans:
            inside = []
            while breaks and breaks[-1][0] < end:
                offset, text = breaks.pop()
                inside.append((offset - begin, text))
            first, after = mark, mark
            while after < len(marks) and marks[after].at + bool(marks[after].length) <= end:
                after += 1
                if marks[after - 1].at < end or marks[after - 1].kind == "close" or end == len(self.flat):
                    mark = after
            own = tuple(one._replace(at=one.at - begin) for one in marks[first:mark])
            yield Sentence(self.flat[begin:end], tuple(inside), own)

    def bare(self) -> Iterator[Piece]:
        """Yields the sentence without the signs that stand around it, and these signs."""
        if not needs_translation(self.flat):
            yield from self._untranslated()
            return
        first, last = self._inner_marks()
        yield from (mark.raw for mark in self.marks[:first])
        body = replace(self, marks=self.marks[first:last])
        length = next((mark.length for mark in body.marks if mark.kind == "image" and not mark.at), 0)
        if self.flat[length : length + 1].isspace() and not self.flat[length:].lstrip()[:1].islower():
            yield from body.cut([self.flat[:length], self.flat[length:]])  # an image before a sentence
        else:
            yield body
        yield from (mark.raw for mark in self.marks[last:])

    def _inner_marks(self) -> tuple[int, int]:
        """Returns the range of the marks that are not around the whole sentence."""
        marks, first, last = self.marks, 0, len(self.marks)
        ends = {mark.element: mark.at for mark in marks if mark.kind == "close"}
        while first < last and (marks[first].at, marks[first].length) == (0, 0):
            if marks[first].kind == "open" and ends.get(marks[first].element, len(self.flat)) < len(self.flat):
                break
            first += 1
        inner = {mark.element for mark in marks[first:] if mark.kind == "open"}
        while last > first and (marks[last - 1].at, marks[last - 1].length) == (len(self.flat), 0):
            if marks[last - 1].kind == "close" and marks[last - 1].element in inner:
                break
            last -= 1
        return first, last

    def _untranslated(self) -> Iterator[Piece]:
        """Yields the text, and the texts of its images as sentences."""
        for raw, mark in self._exact():
            if mark and needs_translation(mark.alt):
                yield from (raw[:2], *Sentence(mark.alt).cut([mark.alt]), raw[2 + len(mark.alt) :])
            else:
                yield raw

    def _exact(self) -> Iterator[tuple[str, Mark | None]]:
        """Yields the parts of the text as it was, each with the sign that it is."""
        signs: list[tuple[int, int, str, Mark | None]] = [(at, 1, raw, None) for at, raw in self.breaks]
        signs += [(mark.at, mark.length, mark.raw, mark) for mark in self.marks]
        start = 0
        for at, length, raw, mark in sorted(signs, key=lambda sign: (sign[0], min(sign[1], 1))):
            if start < at:
                yield self.flat[start:at], None
            yield raw, mark
            start = at + length
        yield self.flat[start:], None

    def render(self, output: str, phrases: Mapping[str, str]) -> str:
        """Returns an output with the line breaks and the signs of the sentence.

        Args:
            output: The translation of ``flat``.
            phrases: Translations of ``phrases``.
        """
        if not self.marks:
            return self.rewrap(output)
        output = without_echoes(output)
        escaped = {mark.raw[1:] for mark in self.marks if mark.kind == "escape"}
        breaks = self._places_of_breaks(output)
        return SignedTranslation(self.flat, output, phrases, self._tree(phrases), breaks, escaped).render_sentence()

    def _tree(self, alts: Mapping[str, str]) -> Inline:
        """Returns the sentence with its elements; the texts of images are translated."""
        root = Inline(0, len(self.flat))
        inside = [(root, -1)]
        opened = {mark.element for mark in self.marks if mark.kind == "open"}
        for mark in self.marks:
            node = Inline(mark.at, mark.at + mark.length, mark.raw, is_emphasis=mark.is_emphasis)
            if mark.kind == "close" and inside[-1][1] == mark.element:
                parent, _ = inside.pop()
                parent.end, parent.closing, parent.relabelled = mark.at, mark.raw, mark.written
            elif mark.kind == "close" and mark.element not in opened and len(inside) == 1:
                root.children = [Inline(0, mark.at, "", node.opening, root.children)]  # it begins in another sentence
            elif mark.kind != "escape":
                if mark.length:
                    node.is_verbatim = True
                if mark.alt:
                    node.opening = mark.raw[:2] + alts.get(mark.alt, mark.alt) + mark.raw[2 + len(mark.alt) :]
                inside[-1][0].children.append(node)
                if mark.kind == "open" and len(inside) <= _DEEPEST:
                    inside.append((node, mark.element))
        for node, _ in inside[1:]:
            node.end = len(self.flat)  # it ends in another sentence
        return root

    def rewrap(self, output: str) -> str:
        """Returns an output with the line breaks of the sentence, at places in proportion to the length of its lines.

        A break for which the output has no white space left is omitted.
        """
        wrapped, start = "", 0
        for place, text in self._places_of_breaks(output):
            wrapped, start = wrapped + output[start:place].strip() + text, place + 1
        return wrapped + output[start:]

    def _places_of_breaks(self, output: str) -> Iterator[tuple[int, str]]:
        """Yields the offsets of spaces of an output in whose place there are line breaks."""
        start = 0
        for offset, text in self.breaks:
            wanted = round(offset / len(self.flat) * len(output))
            before, after = output.rfind(" ", start + 1, wanted + 1), output.find(" ", max(wanted, start + 1))
            places = [place for place in (before, after) if place > start]
            if places:
                place = min(places, key=lambda place: abs(place - wanted))
                yield place, text
                start = place + 1


Piece = str | Sentence
"""A sentence, or text that stays as it is."""


def join(pieces: Iterable[Piece]) -> str:
    """Returns the text of which ``segment`` made these pieces."""
    return "".join(piece if isinstance(piece, str) else piece.text for piece in pieces)


def flatten(lines: Iterable[tuple[str, str, str]]) -> Sentence:
    """Returns lines as one text; each is what stands before its text, the text, and what stands after it."""
    lines = list(lines)
    breaks, length = [], 0
    for (_, content, end), (prefix, _, _) in pairwise(lines):
        length += len(content)
        breaks.append((length, end + prefix))
        length += 1
    return Sentence(" ".join(content for _, content, _ in lines), tuple(breaks))
