"""HTML and XML around a text: what a model is to read of it, and the same markup around the model's output.

::

    markup = Markup("<p>Ein <b>Hund</b> bellt.</p>")
    markup.text                                      # "Ein Hund bellt."
    markup.render("A dog barks.", anchors, {"Hund": "dog"})

Markup stays exactly as it was, broken or not: a tree that repairs it would lose the cells of a table without its table,
change attributes, and could not read XML. So tags are read by position, as the HTML standard delimits them.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

from compressor.text.copied import needs_translation
from compressor.text.html_names import BLOCKS, UNTRANSLATED, VERBATIM, VOID
from compressor.text.placeholders import PlaceholderTranslation, free_letters, placeholder
from compressor.text.projection import Anchor, Inline, MarkedTranslation, phrases_of

_BETWEEN = "\n\n"
"""Stands between the blocks in ``Markup.text``: the blocks are paragraphs."""

_DEEPEST = 64
"""Inline elements inside each other; the tags of deeper ones are placed one by one."""

_TAG = re.compile(
    r"<!--.*?(?:-->|\Z)|<!\[CDATA\[.*?(?:\]\]>|\Z)|<[!?][^>]*(?:>|\Z)"
    r"|<(?P<slash>/?)(?P<name>[A-Za-z_][^\s/>]*)"
    r"(?:=\s*\"[^\"]*(?:\"|\Z)|=\s*'[^']*(?:'|\Z)|[^>])*+(?:>|\Z)",
    re.DOTALL,
)
_WHITE_SPACE = re.compile(r"([ \t\r\n\f]+)")
_NO_TRANSLATION = re.compile(
    r"\stranslate\s*=\s*[\"']?no\b|\sclass\s*=\s*(?:\"[^\"]*|'[^']*)?\bnotranslate\b", re.IGNORECASE
)


@dataclass(frozen=True)
class XmlTags:
    """How the elements of an XML text are read; without a name in these sets, by where they are.

    Attributes:
        splitting: End a sentence.
        non_splitting: Do not.
        untranslated: Stay as they are.
        by_content: An element ends a sentence unless it stands beside text in its parent; False: none does.
    """

    splitting: frozenset[str] = frozenset()
    non_splitting: frozenset[str] = frozenset()
    untranslated: frozenset[str] = frozenset()
    by_content: bool = True


class _Token(NamedTuple):
    raw: str
    kind: Literal["text", "open", "close", "other", "verbatim"]
    """``verbatim`` is an element that is not translated; ``other`` is what else has no end tag, as a comment."""
    name: str = ""


class _Block(NamedTuple):
    """A line of text with its inline markup."""

    text: str
    root: Inline


class Markup:
    """A text with markup.

    Args:
        source: HTML or XML, a document or a part of one, well-formed or not.
        xml: How to read it as XML; None: it is HTML.
    """

    def __init__(self, source: str, xml: XmlTags | None = None) -> None:
        self._nbsp = "&nbsp;" if xml is None else "&#160;"
        self._segments = list(_segments(_tokens(source, xml), xml))
        blocks = [one for one in self._segments if isinstance(one, _Block)]
        self.text = _BETWEEN.join(block.text for block in blocks)
        self.phrases = list(dict.fromkeys(phrase for block in blocks for phrase in phrases_of(*block)))
        """Texts whose own translations help to place tags."""

    def render(self, output: str, anchors: Sequence[Anchor], phrases: Mapping[str, str]) -> str:
        """Returns the markup around the translation.

        Args:
            output: Translation of ``text``.
            anchors: Offsets in ``text`` and ``output`` that belong together, in order: ends of sentences.
            phrases: Translations of ``phrases``, as many as there are.
        """
        anchors = sorted({(0, 0), *anchors, (len(self.text), len(output))})
        whole = MarkedTranslation(self.text, output, anchors, {})
        parts, offset = [], 0
        for segment in self._segments:
            if isinstance(segment, str):
                parts.append(segment)
                continue
            end = offset + len(segment.text)
            low, high = round(whole.at(offset)), round(whole.at(end))
            inside = anchors[bisect_left(anchors, (offset, low)) : bisect_right(anchors, (end, high))]
            local = [(0, 0), *((at - offset, to - low) for at, to in inside), (len(segment.text), high - low)]
            own = output[low:high], local, phrases, segment.root, self._nbsp
            parts.append(PlaceholderTranslation(segment.text, *own).render(segment.root))
            offset = end + len(_BETWEEN)
        return "".join(parts)


def _tokens(source: str, xml: XmlTags | None) -> list[_Token]:
    """Returns the tags and texts of a source, whose ``raw`` are the source when joined."""
    tokens, start = [], 0
    while match := _TAG.search(source, start):
        if match.start() > start:
            tokens.append(_Token(source[start : match.start()], "text"))
        name = match["name"] or ""
        tokens.append(_tag(match[0], name if xml else name.lower(), bool(match["slash"]), xml))
        start = match.end()
        if xml is None and tokens[-1].kind == "open" and tokens[-1].name in VERBATIM:
            ending = re.compile(rf"</{tokens[-1].name}(?=[\s/>])", re.IGNORECASE).search(source, start)
            stop = ending.start() if ending else len(source)
            tokens.append(_Token(source[start:stop], "other", tokens[-1].name))
            start = stop
    if start < len(source):
        tokens.append(_Token(source[start:], "text"))
    return _with_untranslated(tokens, xml)


def _tag(raw: str, name: str, is_end: bool, xml: XmlTags | None) -> _Token:
    if not name or (not is_end and (raw.endswith("/>") or (xml is None and name in VOID))):
        return _Token(raw, "other", name)
    return _Token(raw, "close" if is_end else "open", name)


def _with_untranslated(tokens: list[_Token], xml: XmlTags | None) -> list[_Token]:
    """Returns the tokens with every element that is not translated in one."""
    partners, merged, index = _partners(tokens), [], 0
    untranslated = UNTRANSLATED if xml is None else xml.untranslated
    while index < len(tokens):
        token, end = tokens[index], partners.get(index)
        marked = token.name in untranslated or (xml is None and _NO_TRANSLATION.search(token.raw))
        if token.kind == "open" and end is not None and marked:
            inside = tokens[index : end + 1]
            has_text = any(one.kind == "text" and one.raw.strip() for one in inside)
            merged.append(_Token("".join(one.raw for one in inside), "verbatim" if has_text else "other", token.name))
            index = end
        else:
            merged.append(token)
        index += 1
    return merged


def _partners(tokens: Sequence[_Token]) -> dict[int, int]:
    """Returns the index of the other tag for the start and end tags of an element; a tag without one is left out."""
    partners: dict[int, int] = {}
    opened: list[int] = []
    counts: dict[str, int] = {}
    for index, token in enumerate(tokens):
        if token.kind == "open":
            opened.append(index)
            counts[token.name] = counts.get(token.name, 0) + 1
        elif token.kind == "close" and counts.get(token.name, 0):
            while opened:
                start = opened.pop()
                counts[tokens[start].name] -= 1
                if tokens[start].name == token.name:
                    partners[start], partners[index] = index, start
                    break
    return partners


def _segments(tokens: Sequence[_Token], xml: XmlTags | None) -> Iterator[str | _Block]:
    """Yields the blocks of text and what stands between them."""
    partners = _partners(tokens)
    ends_line = _html_blocks(tokens) if xml is None else _xml_blocks(tokens, partners, xml)
    line: list[int] = []
    for index, token in enumerate(tokens):
        if index not in ends_line:
            line.append(index)
            continue
        yield _line(tokens, line, partners)
        yield token.raw
        line = []
    yield _line(tokens, line, partners)


def _html_blocks(tokens: Sequence[_Token]) -> set[int]:
    """Returns the indices of the tags that end a line: of blocks, and between two links without anything there."""
    blocks = {index for index, token in enumerate(tokens) if token.name in BLOCKS}
    for index, (token, following) in enumerate(pairwise(tokens)):
        if token.name == following.name == "a" and (token.kind, following.kind) == ("close", "open"):
            blocks |= {index, index + 1}
    return blocks


def _xml_blocks(tokens: Sequence[_Token], partners: Mapping[int, int], xml: XmlTags) -> set[int]:
    """Returns the indices of the tags that end a sentence."""
    parents: dict[int, int] = {}
    with_text: set[int] = set()
    inside = [-1]
    for index, token in enumerate(tokens):
        if token.kind == "close" and index in partners:
            inside.pop()
        parents[index] = inside[-1]
        if token.kind == "text" and token.raw.strip():
            with_text.add(inside[-1])
        elif token.kind == "open" and index in partners:
            inside.append(index)

    def ends_line(index: int) -> bool:
        name = tokens[index].name
        if not name or name in xml.splitting or name in xml.non_splitting:
            return name in xml.splitting
        return xml.by_content and parents[index] not in with_text

    return {index for index in range(len(tokens)) if tokens[index].kind != "text" and ends_line(index)}


def _line(tokens: Sequence[_Token], line: Sequence[int], partners: Mapping[int, int]) -> str | _Block:
    """Returns the block of some tokens, or what they are if they have nothing to translate."""
    builder = _LineBuilder(free_letters("".join(tokens[index].raw for index in line)))
    first, last = (line[0], line[-1]) if line else (0, 0)
    for index in line:
        token, partner = tokens[index], partners.get(index, -1)
        if token.kind == "text":
            builder.add_text(html.unescape(token.raw))
        elif token.kind == "verbatim":
            builder.add_verbatim(token.raw)
        elif token.kind == "open" and first <= partner <= last:
            builder.open(token.raw, partner)
        elif token.kind != "close" or not builder.close(token.raw, index):
            builder.add_tag(token.raw)
    block = builder.block()
    return block if needs_translation(block.text) else "".join(tokens[index].raw for index in line)


class _LineBuilder:
    """Makes the block of a line: its text with single spaces for white space, and the tree of its markup.

    Args:
        letters: Beginning of the placeholders.
    """

    def __init__(self, letters: str) -> None:
        self._letters, self._placeholders = letters, 0
        self._parts: list[str] = []
        self._length = 0
        self._root = Inline(0, 0)
        self._inside = [(self._root, -1)]  # open elements, and the index of the end tag of each

    def add_text(self, text: str) -> None:
        for part in filter(None, _WHITE_SPACE.split(text)):
            if not _WHITE_SPACE.fullmatch(part):
                self._append(part)
            elif not self._parts or self._parts[-1] == " ":
                self.add_tag(part)
            else:
                self._append(" ")
                if part != " ":
                    self._add(Inline(self._length - 1, self._length, part, is_space=True))

    def add_tag(self, raw: str) -> None:
        self._add(Inline(self._length, self._length, raw))

    def add_verbatim(self, raw: str) -> None:
        self._placeholders += 1
        start = self._length
        self._append(placeholder(self._letters, self._placeholders))
        self._add(Inline(start, self._length, raw, is_verbatim=True))

    def open(self, raw: str, end: int) -> None:
        if len(self._inside) > _DEEPEST:
            return self.add_tag(raw)
        node = Inline(self._length, self._length, raw)
        self._add(node)
        self._inside.append((node, end))

    def close(self, raw: str, index: int) -> bool:
        """Ends the innermost element; returns False if the end tag at ``index`` is not its own."""
        node, end = self._inside[-1]
        if end != index:
            return False
        node.end, node.closing = self._length, raw
        self._inside.pop()
        return True

    def block(self) -> _Block:
        self._root.end = self._length
        return _Block("".join(self._parts), self._root)

    def _append(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)

    def _add(self, node: Inline) -> None:
        self._inside[-1][0].children.append(node)
