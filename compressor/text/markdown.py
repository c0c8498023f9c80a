"""Reads the inline signs of Markdown in a line: emphasis, code, links, images, autolinks, tags, escapes.

The rules are those of CommonMark 0.31, chapter 6, and GitHub's strikethrough and footnotes. Unlike there, a link by
reference (``[text][label]``) needs no definition, brackets in the target of a link are at most three deep, one asterisk
within a word is a character (``2*3*4``, ``Leser*innen``), and of tags without a partner only those that HTML knows are
signs. Libraries that parse Markdown do not tell where in its line an inline sign stands, which is what is needed here.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from compressor.text.html_names import BLOCKS, INLINE, UNTRANSLATED, VOID

_MAYBE = re.compile(r"[*_`<\[\\~]")
_SPECIAL = re.compile(r"[\\`<\]]|!?\[|\*+|_+|~+")
_ESCAPED = frozenset("*_`[]<>#~|!")
"""Signs that are characters after a backslash. Before other signs, backslashes occur in paths: ``C:\\-x``."""
_TICKS = re.compile(r"`+")
_ADDRESS = re.compile(r"<(?:[A-Za-z][A-Za-z0-9+.-]{1,31}:[^\s<>]*+|[^\s<>@]++@[\w.-]++)>")
_TAG = re.compile(
    r"<(?P<slash>/?)(?P<name>[A-Za-z][\w:-]*+)"
    r"(?:\s++[\w:@.-]++(?:\s*+=\s*+(?:\"[^\"<]*+\"|'[^'<]*+'|[^\s\"'=<>`]++))?+)*+\s*+(?P<empty>/?)>"
)
_TARGET = re.compile(
    r"\(\s*+(?:<(?:[^<>\\]|\\.)*+>|(?!<)(?:[^\s()\\]|\\.|\((?:[^\s()\\]|\\.|\((?:[^\s()\\]|\\.)*+\))*+\))*+)"
    r"(?:\s++(?:\"(?:[^\"\\]|\\.)*+\"|'(?:[^'\\]|\\.)*+'|\([^()]*+\)))?+\s*+\)",
    re.DOTALL,
)
_LABEL = re.compile(r"\[([^][]{0,999})\]")
_FOOTNOTE = re.compile(r"\[\^[^][\s]++\]")
DEFINITION = re.compile(
    r"\[(?!\^)([^][]{1,999})\]:[ \t]+(?:<[^<>\n]*>|(?=\S*[./#:])\S++)"
    r"(?:[ \t]+(?:\"[^\"\n]*\"|'[^'\n]*'|\([^()\n]*\)))?(?=[ \t\r]*$)",
    re.MULTILINE,
)
"""A line that defines a link: its label, an address, and perhaps a title. Of other words it is a remark."""
_SPACE = re.compile(r"\s+")

SignKind = Literal["open", "close", "single", "break", "verbatim", "image", "escape"]


@dataclass(eq=False)
class Sign:
    """A sign of Markdown in a text.

    Attributes:
        start: Its first character.
        end: The character after its last.
        kind: ``open`` and ``close`` enclose text; ``verbatim`` is an element that stays as it is, ``image`` one with a
            text of its own; ``single`` stands for itself; ``break`` does, and ends a sentence; ``escape`` is a
            backslash and its character.
        partner: The other sign of an element.
        is_emphasis: It is of asterisks, underscores or tildes.
        written: What a translation has in its place if the text of the element is another; empty: the sign itself.
        tag: Name of a tag of HTML that has an end tag, or is one.
    """

    start: int
    end: int
    kind: SignKind
    partner: Sign | None = None
    is_emphasis: bool = False
    written: str = ""
    tag: str = ""


@dataclass(eq=False)
class _Run:
    """A run of asterisks, underscores or tildes that may be emphasis."""

    start: int
    end: int
    character: str
    can_open: bool
    can_close: bool
    length: int
    before: int = -1
    after: int = -1


@dataclass(eq=False)
class _Bracket:
    start: int
    is_image: bool
    runs: int
    """Runs before it."""
    signs: int
    """Signs before it."""


def labels_of(text: str) -> frozenset[str]:
    """Returns the labels that a text defines for links (``[label]: target``), as ``normalized`` writes them."""
    return frozenset(normalized(label) for label in DEFINITION.findall(text)) if "]:" in text else frozenset()


def normalized(label: str) -> str:
    """Returns a label of a link as labels are compared."""
    return _SPACE.sub(" ", label.strip()).casefold()


def read_signs(text: str, labels: frozenset[str] = frozenset()) -> list[Sign]:
    """Returns the signs of a text in order, elements nested, in time linear in the length of the text.

    Args:
        text: Running text, a paragraph or a part of one, with spaces for its line breaks.
        labels: Labels that are defined for links.
    """
    return _Reader(text, labels).signs() if _MAYBE.search(text) else []


class _Reader:
    def __init__(self, text: str, labels: frozenset[str]) -> None:
        self._text, self._labels = text, labels
        self._signs: list[Sign] = []
        self._runs: list[_Run] = []
        self._brackets: list[_Bracket] = []
        self._inactive = 0
        """Brackets at the bottom of the stack before a link: they begin no link, because links have none inside."""
        self._ticks: dict[int, list[int]] | None = None
        self._unclosed: set[str] = set()

    def signs(self) -> list[Sign]:
        position = 0
        while match := _SPECIAL.search(self._text, position):
            position = self._read(match[0], match.start(), match.end())
        self._signs += _emphasis(self._runs)
        return _with_paired_tags(sorted(self._signs, key=lambda sign: sign.start))

    def _read(self, special: str, start: int, end: int) -> int:
        """Reads what begins at ``start``; returns where to read on."""
        match special[0]:
            case "\\":
                following = self._text[end : end + 1]
                if following in _ESCAPED and following:
                    self._add(start, end + 1, "escape")
                return end + 1
            case "`":
                return self._code(start)
            case "<":
                return self._angle(start)
            case "]":
                return self._end_bracket(start)
            case "[" | "!":
                if special == "[" and (note := _FOOTNOTE.match(self._text, start)):
                    return self._add(start, note.end(), "single")
                self._brackets.append(_Bracket(start, special == "![", len(self._runs), len(self._signs)))
                return end
        if special[0] != "~" or len(special) == 2:
            self._runs.append(_run(self._text, start, end))
        return end

    def _add(self, start: int, end: int, kind: SignKind, tag: str = "") -> int:
        self._signs.append(Sign(start, end, kind, tag=tag))
        return end

    def _code(self, start: int) -> int:
        if self._ticks is None:
            self._ticks = {}
            for ticks in _TICKS.finditer(self._text):
                self._ticks.setdefault(len(ticks[0]), []).append(ticks.start())
        run = _TICKS.match(self._text, start)
        assert run
        closing = self._ticks.get(len(run[0]), [])
        place = bisect_left(closing, run.end())
        return self._add(start, closing[place] + len(run[0]), "verbatim") if place < len(closing) else run.end()

    def _angle(self, start: int) -> int:
        """Reads an autolink, a comment or a tag."""
        if address := _ADDRESS.match(self._text, start):
            return self._add(start, address.end(), "verbatim")
        if self._text.startswith("<!--", start):
            return self._past("-->", start) or start + 1
        tag = _TAG.match(self._text, start)
        if not tag:
            return start + 1
        name = tag["name"].lower()
        if name in BLOCKS:
            return self._add(start, tag.end(), "break")
        if name in VOID or tag["empty"]:
            return self._add(start, tag.end(), "single")
        if name in UNTRANSLATED and not tag["slash"] and (end := self._past(f"</{name}>", start)):
            return self._add(start, end, "verbatim")
        return self._add(start, tag.end(), "close" if tag["slash"] else "open", name)

    def _past(self, ending: str, start: int) -> int:
        """Returns the offset after the next ``ending``; 0 if there is none."""
        place = -1 if ending in self._unclosed else self._text.find(ending, start)
        if place < 0:
            self._unclosed.add(ending)
            return 0
        return place + len(ending)

    def _end_bracket(self, start: int) -> int:
        """Reads a closing bracket: the end of a link or of an image, or a character."""
        if not self._brackets:
            return start + 1
        opening = self._brackets.pop()
        is_inactive = len(self._brackets) < self._inactive
        self._inactive = min(self._inactive, len(self._brackets))
        if is_inactive and not opening.is_image:
            return start + 1
        end, written = self._link_end(opening, start)
        if not end:
            return start + 1
        if opening.is_image:
            del self._signs[opening.signs :], self._runs[opening.runs :]
            return self._add(opening.start, end, "image")
        self._signs += _emphasis(self._runs[opening.runs :])
        del self._runs[opening.runs :]
        first = Sign(opening.start, opening.start + 1, "open")
        last = Sign(start, end, "close", first, written=written)
        first.partner = last
        self._signs += [first, last]
        self._inactive = len(self._brackets)
        return end

    def _link_end(self, opening: _Bracket, start: int) -> tuple[int, str]:
        """Returns the end of a link's target, and how it is written where the text of the link is also its label.

        The end is 0 where the brackets are no link.
        """
        if target := _TARGET.match(self._text, start + 1):
            return target.end(), ""
        label = _LABEL.match(self._text, start + 1)
        if label and label[1].strip():
            return label.end(), ""
        if start - opening.start > 1000 or not self._labels:
            return 0, ""
        own = self._text[opening.start + 1 + opening.is_image : start]
        if normalized(own) not in self._labels:
            return 0, ""
        return label.end() if label else start + 1, f"][{own}]"


def _run(text: str, start: int, end: int) -> _Run:
    """Returns a run with what it can do by the characters at its sides: "left-flanking" and "right-flanking"."""
    before, after = text[start - 1 : start] or " ", text[end : end + 1] or " "
    space_before, space_after = before.isspace(), after.isspace()
    sign_before, sign_after = _is_punctuation(before), _is_punctuation(after)
    is_left = not space_after and (not sign_after or space_before or sign_before)
    is_right = not space_before and (not sign_before or space_after or sign_after)
    can_open, can_close = is_left, is_right
    if text[start:end] == "*" and before.isalnum() and after.isalnum():
        can_open = can_close = False
    elif text[start] == "_":
        can_open = is_left and (not is_right or sign_before)
        can_close = is_right and (not is_left or sign_after)
    return _Run(start, end, text[start], can_open, can_close, end - start)


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"


def _emphasis(runs: Sequence[_Run]) -> list[Sign]:
    """Returns the signs that runs make in pairs ("process emphasis" of CommonMark, appendix).

    ``bottoms`` has, for each kind of closing run, the index below which no run opens for it: so the time is linear.
    """
    signs: list[Sign] = []
    bottoms: dict[tuple[str, bool, int], int] = {}
    for index, run in enumerate(runs):
        run.before, run.after = index - 1, index + 1
    index = 0
    while index < len(runs):
        closing = runs[index]
        if not closing.can_close or closing.start == closing.end:
            index = closing.after
            continue
        key = (closing.character, closing.can_open, closing.length % 3)
        opening_index = closing.before
        while opening_index >= bottoms.get(key, 0) and not _match(runs[opening_index], closing):
            opening_index = runs[opening_index].before
        if opening_index < bottoms.get(key, 0):
            bottoms[key] = index
            if not closing.can_open:
                _remove(runs, index)
            index = closing.after
            continue
        signs += _pair(runs[opening_index], closing)
        runs[opening_index].after, closing.before = index, opening_index
        if runs[opening_index].start == runs[opening_index].end:
            _remove(runs, opening_index)
        if closing.start == closing.end:
            _remove(runs, index)
            index = closing.after
    return signs


def _match(opening: _Run, closing: _Run) -> bool:
    if opening.character != closing.character or not opening.can_open:
        return False
    is_odd = (opening.can_close or closing.can_open) and (opening.length + closing.length) % 3 == 0
    return opening.character == "~" or not is_odd or opening.length % 3 == closing.length % 3 == 0


def _pair(opening: _Run, closing: _Run) -> tuple[Sign, Sign]:
    """Returns the signs of an element, and takes their characters from the runs."""
    size = min(2, opening.end - opening.start, closing.end - closing.start)
    first = Sign(opening.end - size, opening.end, "open", is_emphasis=True)
    last = Sign(closing.start, closing.start + size, "close", first, is_emphasis=True)
    first.partner = last
    opening.end -= size
    closing.start += size
    return first, last


def _remove(runs: Sequence[_Run], index: int) -> None:
    run = runs[index]
    if run.before >= 0:
        runs[run.before].after = run.after
    if run.after < len(runs):
        runs[run.after].before = run.before


def _with_paired_tags(signs: Sequence[Sign]) -> list[Sign]:
    """Returns the signs with partners for tags of the same name that cross no other element.

    Tags without a partner are single signs if HTML knows them, and text if not: ``List<String>``.
    """
    opened: list[Sign] = []
    for sign in signs:
        if sign.kind == "open":
            opened.append(sign)
        elif sign.kind == "close" and not sign.tag:
            while opened.pop() is not sign.partner:
                pass
        elif sign.kind == "close" and opened and opened[-1].tag == sign.tag:
            sign.partner = opened.pop()
            sign.partner.partner = sign
    paired = []
    for sign in signs:
        if sign.tag and not sign.partner:
            if sign.tag not in INLINE:
                continue
            sign.kind = "single"
        paired.append(sign)
    return paired
