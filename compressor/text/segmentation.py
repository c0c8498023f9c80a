"""Divides a text into sentences to translate and into what stands between them, without losing a character.

Line breaks, indentation, list markers, headings' and quotations' signs stay as they are, and so do code blocks,
comments, metadata and sentences without anything to translate. A paragraph whose lines were wrapped is read as running
text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from compressor.text.copied import is_copied, needs_translation
from compressor.text.emoji import split_emoji
from compressor.text.markdown import labels_of
from compressor.text.marks import without_signs
from compressor.text.pieces import Piece, Sentence, flatten
from compressor.text.sentences import split_sentences
from compressor.text.verbatim import VerbatimBlocks

_WRAP_WIDTHS = range(40, 121)
"""Widths, in characters, of paragraphs whose line breaks may come from wrapping."""

_LEAST_WRAP_WIDTH = 60
"""Width from which one line alone may have been wrapped before a capital; lists and addresses have shorter lines."""
_ITEM = re.compile(r"[\d\[§]|[\w.-]{1,30}(?:=|:\s)")
"""Beginning of a line that may be one of several, such as an amount, a time, a key."""

_MOST_LINES = 8
"""Lines of a sentence. Without an end in so many, the lines are not those of running text."""

_PREFIX = re.compile(  # letters as numbers (a. Name) stand before a whole capitalized word: not in z. B. or v. Chr.
    r"\ufeff?(?:\s*(?:>(?!>[\w-]{2,20}<<)"  # a quotation, but not Marian's >>language<<
    r"|(?:\#{1,6}|[-*+•◦▪‣·–—:→⇒]|\d{1,3}[.)]|[A-Za-z]\)|\((?:\d{1,3}|[A-Za-z])\)|\[[ xX]\]"
    r"|\d{1,2}\.\d(?=\s+[^\W\d_a-zäöü])|\d{1,2}(?:\.\d{1,2}){2,}\.?"  # 1.2 Heading, 1.2.3; but 1.5 times, 8.30 Uhr
    r"|\[\^[^][\s]+\]:"  # a footnote
    r"|[a-hA-Z]\.(?=\s+[^\W\d_a-zäöü][^\W\d_]+(?![\w.]))|(?:[ivx]{2,5}|[IVX]{2,5})\.(?=\s+[^\W\d_a-zäöü])"
    r")(?=\s)))*\s*"
)
_CELL, _TAB = re.compile(r"(\s*(?<!\\)\|\s*)"), re.compile(r"(\s*\t\s*)")
_QUOTED = re.compile(r"(?:^|(?<=;))\"(?:[^\"]|\"\")*+\"(?=;|$)")
_FIELD = re.compile(r"((?:^|(?<=;))\")((?:[^\"]|\"\")*+)(\"(?=;|$))|([^;]+)|(;)")
"""A field of a CSV line, quoted or not, or what stands between two."""
_TIGHT = re.compile(r";(?=[^\s;])")
"""A semicolon between the fields of a CSV line; one of a sentence has white space after it."""
_ENTITY = re.compile(r"&#?\w+;")
_NUMBERED = re.compile(r"(?<!\S)(\d{1,3}\.)\s+$")
_LABEL_END = re.compile(r"(?:(?<=[:.!?])|:|(?=\s[–—-]\s))(?:\s[–—-])?\s+(?=\S)")
"""What stands after a label, up to the text."""
_LONGEST_LABEL = 100
_OPEN_TAG = re.compile(r"<[A-Za-z][\w:-]*(?:\s[^<>]*)?$")
"""The beginning of a tag that does not end in its line."""
_COLON = re.compile(r":\s+")
_BETWEEN = re.compile(r"(<!--.{0,1000}?-->\s*|\n\s*|(?:\\[nrt])+(?![a-zäöüß]))")
"""Comments, line feeds, which stand for tags that end a line, and ``\\n`` of programs, but not that of C:\\news."""


class _Line(NamedTuple):
    """A line of a text; its parts, joined, are the line."""

    prefix: str
    """Indentation and markers."""
    content: str
    """Empty in a blank line."""
    end: str
    """White space and the line break."""

    @property
    def text(self) -> str:
        return "".join(self)

    @property
    def markers(self) -> str:
        """The prefix without white space and signs of quotation."""
        return "".join(self.prefix.replace(">", " ").split())


def segment(text: str, language: str = "en") -> list[Piece]:
    """Returns the sentences of a text and everything between them, in order.

    Args:
        text: The text, valid Unicode.
        language: Code of its language; a region (``de-AT``) is ignored.
    """
    language = re.split("[-_]", language)[0].lower()
    labels = labels_of(text)
    pieces: list[Piece] = []
    for lines in _paragraphs(text, language):
        if isinstance(lines, str):
            pieces.append(lines)
            continue
        width = max(len(line.text.rstrip()) for line in lines)
        full_lines = sum(_is_full(line, following, width) for line, following in pairwise(lines))
        block: list[_Line] = []
        tags = _lines_in_tags(lines)
        for index, line in enumerate(lines):
            if block and not (index in tags or _continues(block[-1], line, width, full_lines)):
                pieces += _block(block, language, labels)
                block = []
            block.append(line)
        pieces += _block(block, language, labels)
    return _joined(pieces)


def _paragraphs(text: str, language: str) -> Iterator[list[_Line] | str]:
    """Yields paragraphs, which are lines without blank ones between them, and the text between paragraphs."""
    before: list[_Line] = []
    for lines in _paragraphs_and_verbatim(text, language):
        if isinstance(lines, str):
            yield lines
        elif before and _is_code(lines) and not (before[-1].markers or _is_indented(before[-1])):
            yield "".join(line.text for line in lines)
        else:
            yield lines
            before = lines


def _is_indented(line: _Line) -> bool:
    return line.prefix.startswith(("    ", "\t"))


def _is_code(lines: list[_Line]) -> bool:
    """Returns whether a paragraph is indented, and no line of it begins with a capital or ends as sentences do."""
    return all(
        _is_indented(line) and not line.markers and not line.content[0].isupper() and line.content[-1] not in ".!?…"
        for line in lines
    )


def _paragraphs_and_verbatim(text: str, language: str) -> Iterator[list[_Line] | str]:
    """Yields paragraphs, and the blank lines and other verbatim blocks between them."""
    raws = text.splitlines(keepends=True)
    lines = list(_with_ends_of_tags(_parse(raw, language) for raw in raws))
    blocks = VerbatimBlocks([line.content for line in lines], [raw.rstrip() for raw in raws])
    first = start = 0
    while start < len(lines):
        end = blocks.end(start)
        if end == start:
            start += 1
            continue
        if first < start:
            yield lines[first:start]
        yield "".join(raws[start:end])
        first = start = end
    if first < start:
        yield lines[first:]


def _parse(raw: str, language: str) -> _Line:
    body = raw.rstrip()
    prefix = _PREFIX.match(body)
    assert prefix is not None  # it matches the empty text
    start = prefix.end()
    number = _NUMBERED.search(prefix[0])
    if number and body[start : start + 1].isupper() and _is_ordinal(number[1], body[start : start + 40], language):
        start = number.start()
    return _Line(body[:start], body[start:], raw[len(body) :])


def _with_ends_of_tags(lines: Iterable[_Line]) -> Iterator[_Line]:
    """Yields the lines; a ``>`` that ends a tag of a line before is content, not a sign of quotation."""
    is_open = False
    for line in lines:
        marker = line.prefix.find(">") if is_open else -1
        if marker >= 0:
            line = _Line(line.prefix[:marker], line.prefix[marker:] + line.content, line.end)
        begins = ">" not in line.prefix and bool(_OPEN_TAG.search(line.content))
        is_open = begins or (is_open and not re.search("[<>]|^$", line.content))
        yield line


def _is_ordinal(number: str, following: str, language: str) -> bool:
    """Returns whether a number at the start of a line is a date's (3. Oktober) rather than an item's."""
    return len(split_sentences(f"x {number} {following.split()[0]} x", language)) == 1


def _is_full(line: _Line, following: _Line, width: int) -> bool:
    """Returns whether the first word of the next line had no room in a line."""
    return len(line.text.rstrip()) + 1 + len(following.content.split(maxsplit=1)[0]) > width


def _continues(line: _Line, following: _Line, width: int, full_lines: int) -> bool:
    """Returns whether the break between two lines of a paragraph comes from wrapping.

    It does if the line is full. The longest one always is, so that before what may be a line of its own, there must be
    another full one, or the line must be long or end within a phrase. Before a small letter, half of the width will do.
    """
    if width not in _WRAP_WIDTHS or "#" in line.markers or following.markers:
        return False
    if line.prefix.count(">") != following.prefix.count(">") or line.end.startswith("  "):
        return False
    if _cells(line.content) or _cells(following.content):
        return False
    if not (needs_translation(line.content) and any(map(str.isalpha, following.content))):
        return False
    if _ITEM.match(following.content):
        return full_lines > 1 and _is_full(line, following, width)
    if following.content[0].islower():
        return _is_full(line, following, width) or len(line.text.rstrip()) >= width / 2
    is_likely = full_lines > 1 or width >= _LEAST_WRAP_WIDTH or line.content.split()[-1].islower()
    return is_likely and _is_full(line, following, width)


def _lines_in_tags(lines: list[_Line]) -> set[int]:
    """Returns the indices of lines that begin inside a tag of HTML, which begins in a line before and ends."""
    inside: set[int] = set()
    opened: int | None = None
    for index, line in enumerate(lines):
        end = line.content.find(">")
        if opened is not None and end >= 0:
            inside |= set(range(opened + 1, index + 1))
        if end >= 0 or "<" in line.content:
            opened = None
        if _OPEN_TAG.search(line.content):
            opened = index
    return inside


def _cells(content: str) -> list[str]:
    """Returns the cells of a line and what separates them, of a Markdown table, between tabs, of CSV.

    Running text has none.
    """
    if len(content) > 1 and content[0] == content[-1] == "|":
        return _CELL.split(content)
    if "\t" in content:
        return _TAB.split(content)
    if ";" not in content:
        return []
    fields, quoted = _QUOTED.subn("x", _ENTITY.sub("", content))
    if "; " in fields or len(_TIGHT.findall(fields)) <= (quoted < 2):
        return []
    return [part for field in _FIELD.finditer(content) for part in field.groups() if part]


def _block(lines: list[_Line], language: str, labels: frozenset[str]) -> list[Piece]:
    """Returns the pieces of lines that are read as one text."""
    first, last = lines[0], lines[-1]
    if contents := _cells(first.content):
        cells = [without_signs(Sentence(cell), language, labels) for cell in contents]
        inside = [piece for cell in cells for piece in cell.cut(_parts(cell, language))]
        return [first.prefix, *inside, first.end]
    text = without_signs(flatten(lines), language, labels)
    inside = text.cut(_parts(text, language))
    if any(isinstance(piece, Sentence) and len(piece.breaks) >= _MOST_LINES for piece in inside):
        return [piece for line in lines for piece in _block([line], language, labels)]
    return [first.prefix, *inside, last.end]


def _parts(text: Sentence, language: str) -> list[str]:
    """Returns the sentences of a text, without its signs, and what stands around them; joined, they are the text."""
    sentences = partial(split_sentences, language=language)
    parts = _label(text)
    for divide in (_BETWEEN.split, split_emoji, sentences, _before_copied):
        parts = [part for whole in parts for part in divide(whole) if part]
    return parts


def _label(text: Sentence) -> list[str]:
    """Returns a text in parts where it begins with a label or sentence in an element ("**Hinweis:** ...")."""
    flat, first = text.flat, text.marks[0] if text.marks else None
    if not first or first.at:
        return [flat]
    ends = [mark.at for mark in text.marks if mark.kind == "close" and mark.element == first.element]
    end = next(iter(ends), first.length)
    between = _LABEL_END.match(flat, end) if end <= _LONGEST_LABEL else None
    return [flat[:end], flat[end : between.end()], flat[between.end() :]] if between else [flat]


def _before_copied(text: str) -> list[str]:
    """Returns a text in two where what stands after its last colon is copied ("Siehe: https://example.org")."""
    end = max((colon.end() for colon in _COLON.finditer(text)), default=0)
    words = text[end:].split() if end else []
    is_split = any(map(is_copied, words)) and not needs_translation(text[end:])
    return [text[:end], text[end:]] if is_split else [text]


def _joined(pieces: Iterable[Piece]) -> list[Piece]:
    """Returns the pieces with neighbouring texts that stay as they are in one."""
    joined: list[Piece] = []
    texts: list[str] = []
    for piece in pieces:
        if isinstance(piece, str):
            texts.append(piece)
            continue
        if any(texts):
            joined.append("".join(texts))
        texts = []
        joined.append(piece)
    return [*joined, "".join(texts)] if any(texts) else joined
