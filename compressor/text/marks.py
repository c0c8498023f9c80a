"""Takes inline signs of Markdown and literals out of a text, because models lose or damage them."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable

from compressor.text.copied import needs_translation
from compressor.text.literals import literal_spans
from compressor.text.markdown import Sign, read_signs
from compressor.text.pieces import Mark, Sentence
from compressor.text.placeholders import free_letters, placeholder

_LONGEST_NAME = 200
"""Characters of an element's text in which code without words is looked for."""
_PLAIN = re.compile(r"[^][*_`<>\\~&]{1,200}")
"""The text of an image that is translated."""


def without_signs(text: Sentence, language: str, labels: frozenset[str]) -> Sentence:
    """Returns a text with its inline signs as ``marks``, and placeholders for code, autolinks, images and literals.

    Args:
        text: A text without marks.
        language: Code of its language.
        labels: Labels that are defined for links.
    """
    signs = _with_literals(read_signs(text.flat, labels), literal_spans(text.flat, language))
    return _Marker(text, signs).sentence() if signs else text


def _with_literals(signs: list[Sign], spans: Iterable[tuple[int, int]]) -> list[Sign]:
    """Returns the signs, in order, with those of the literals that overlap none of them."""
    literals = []
    for start, end in spans:
        place = bisect_left(signs, end, key=lambda sign: sign.start)
        if not place or signs[place - 1].end <= start:
            literals.append(Sign(start, end, "verbatim"))
    return sorted([*signs, *literals], key=lambda sign: sign.start) if literals else signs


class _Marker:
    """Makes a sentence with marks from one with signs."""

    def __init__(self, text: Sentence, signs: list[Sign]) -> None:
        self._source, self._breaks, self._signs = text.flat, text.breaks, signs
        self._break_places = [offset for offset, _ in text.breaks]
        self._letters = free_letters(text.flat)
        self._placeholders = 0
        self._parts: list[str] = []
        self._length = 0
        self._new_breaks: list[tuple[int, str]] = []
        self._marks: list[Mark] = []
        self._open: dict[Sign, tuple[int, int, int]] = {}
        """Open elements: numbers of marks, parts and placeholders before each."""

    def sentence(self) -> Sentence:
        cursor = 0
        for sign in self._signs:
            self._add_text(cursor, sign.start)
            self._add_sign(sign)
            cursor = sign.end
        self._add_text(cursor, len(self._source))
        return Sentence("".join(self._parts), tuple(self._new_breaks), tuple(self._marks))

    def _add_text(self, start: int, end: int) -> None:
        first, last = bisect_left(self._break_places, start), bisect_left(self._break_places, end)
        self._new_breaks += [(self._length + offset - start, raw) for offset, raw in self._breaks[first:last]]
        self._append(self._source[start:end])

    def _append(self, text: str) -> None:
        if text:
            self._parts.append(text)
            self._length += len(text)

    def _add_sign(self, sign: Sign) -> None:
        raw = self._exact(sign.start, sign.end)
        match sign.kind:
            case "verbatim" | "image":
                self._add_placeholder(raw, sign)
            case "escape":
                self._marks.append(Mark(self._length, 1, raw, "escape"))
                self._append(raw[1:])
            case "break":
                self._marks.append(Mark(self._length, 1, raw, "break"))
                self._append("\n")
            case "close" if sign.partner and self._is_one(sign.partner):
                self._collapse(sign.partner, sign)
            case kind:
                element = -1
                if kind == "open":
                    element = sign.start
                    self._open[sign] = len(self._marks), len(self._parts), self._placeholders
                elif sign.partner:
                    element = sign.partner.start
                self._marks.append(
                    Mark(self._length, 0, raw, kind, element, sign.written, is_emphasis=sign.is_emphasis)
                )

    def _add_placeholder(self, raw: str, sign: Sign) -> None:
        self._placeholders += 1
        word = placeholder(self._letters, self._placeholders)
        alt = _PLAIN.match(raw, 2) if sign.kind == "image" else None
        alt_text = alt[0] if alt and raw[alt.end()] == "]" else ""
        self._marks.append(Mark(self._length, len(word), raw, sign.kind, alt=alt_text))
        self._append(word)

    def _is_one(self, opening: Sign) -> bool:
        """Returns whether the element that ends here has no text, or only code: both stay as they are."""
        marks, parts, placeholders = self._open[opening]
        start = self._marks[marks].at
        if not any(map(str.strip, self._parts[parts : parts + 2])) and self._length - start < 2:
            return True
        if placeholders == self._placeholders or self._length - start > _LONGEST_NAME:
            return False
        has_images = any(mark.alt for mark in self._marks[marks:])
        return not has_images and not needs_translation("".join(self._parts[parts:]))

    def _collapse(self, opening: Sign, closing: Sign) -> None:
        """Puts one mark in place of those of an element."""
        marks, parts, placeholders = self._open[opening]
        start = self._marks[marks].at
        is_empty = placeholders == self._placeholders
        del self._marks[marks:], self._parts[parts:]
        while self._new_breaks and self._new_breaks[-1][0] >= start:
            self._new_breaks.pop()
        self._length, self._placeholders = start, placeholders
        whole = Sign(opening.start, closing.end, "single" if is_empty else "verbatim")
        self._add_sign(whole)

    def _exact(self, start: int, end: int) -> str:
        """Returns a part of the source with the line breaks that are within it."""
        parts = []
        for index in range(bisect_left(self._break_places, start), bisect_left(self._break_places, end)):
            offset, raw = self._breaks[index]
            parts += [self._source[start:offset], raw]
            start = offset + 1
        return "".join(parts) + self._source[start:end]
