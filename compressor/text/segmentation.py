"""Divides a text into sentences to translate and into what stands between them, without losing a character.

Line breaks, indentation, list markers, headings' and quotations' signs stay as they are, and so do code blocks,
comments, metadata and sentences without anything to translate. A paragraph whose lines were wrapped is read as running
text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from compressor.text.marks import split_emoji, split_marks
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
    r"|[a-hA-Z]\.(?=\s+[^\W\d_a-zäöü][^\W\d_]+(?![\w.]))|(?:[ivx]{2,5}|[IVX]{2,5})\.(?=\s+[^\W\d_a-zäöü])"
    r")(?=\s)))*\s*"
)
_CELL, _TAB, _SEMICOLON = re.compile(r"(\s*(?<!\\)\|\s*)"), re.compile(r"(\s*\t\s*)"), re.compile(r"(;)")
_TIGHT = re.compile(r";(?=[^\s;])")
"""A semicolon between the fields of a CSV line; one of a sentence has white space after it."""
_ENTITY = re.compile(r"&#?\w+;")
_MARKUP = re.compile(
    r"`[^`]*`|<!--[^>]{0,1000}-->|\]\([^()\s]*(?:\s\"[^\"]*\")?\)|</?\w[^<>]*>|\$?\{\s?[\w.$:|-]*\s?\}"
)
_NUMBERED = re.compile(r"(?<!\S)(\d{1,3}\.)\s+$")
_COPIED = re.compile(
    r"[A-Za-z][\w+.-]*://\S+|(?i:www)\.\S+"  # URLs
    r"|(?:~|\.{1,2})?/\S+|[A-Za-z]:\\\S*|\\\\\S+|[\w.-]+(?:/[\w.-]+)+\.\w{1,5}"  # paths
    r"|%(?:\d+\$)?[-+#0-9.]*[A-Za-z]{1,2}|%\(\w+\)[A-Za-z]|%\w+%|\$[A-Za-z_]\w*"  # placeholders
    r"|--[A-Za-z][\w-]*(?:=\S*)?|-[A-Za-z]|0[xX][0-9A-Fa-f]+|[vV]?\d+(?:\.\d+)+[\w.+-]*"  # options, numbers, versions
    r"|[A-Za-z0-9]+(?:_[A-Za-z0-9]+)+|[A-Za-z0-9-]{2,}(?:\.[A-Za-z0-9-]+)*\.(?:[a-z][a-z0-9]{1,4}|[A-Z][A-Z0-9]{1,4})"
    r"|[A-Z]{1,4}\d[\dA-Z]*|(?:\\[nrt])+"  # codes, line breaks as programs write them
)
_LABEL = re.compile(r"((\*{1,3}|__)(?=[^\s*_])[^*_]{1,100}(?:[:.!?]\2|\2:|\2(?=\s[–—-]\s)))((?:\s[–—-])?\s+)(?=\S)")
_COLON = re.compile(r":\s+")
_BETWEEN = re.compile(r"(<!--.{0,1000}?-->\s*|(?:\\[nrt])+(?![a-zäöüß]))")
"""Comments, and line breaks as programs write them, but not those of C:\\temp."""
_EDGES = "()[]<>\"'„“”‚‘’«»,;:!?*_"


@dataclass(frozen=True)
class Sentence:
    """A piece of text that a model is to read."""

    flat: str
    """The text, with a space in place of each line break."""
    breaks: tuple[tuple[int, str], ...] = ()
    """Offsets of these spaces in ``flat``, and what stands there: white space, the line break, and signs after it."""

    @property
    def text(self) -> str:
        """The text as it was."""
        text, start = "", 0
        for offset, exact in self.breaks:
            text, start = text + self.flat[start:offset] + exact, offset + 1
        return text + self.flat[start:]

    def cut(self, parts: Iterable[str]) -> list[Piece]:
        """Returns sentences without surrounding white space, and this white space.

        Args:
            parts: Parts of ``flat``; joined, they are ``flat``.
        """
        spans: list[Sentence] = []
        start, breaks = 0, list(reversed(self.breaks))
        for part in parts:
            end = start + len(part)
            first = end - len(part.lstrip())
            last = max(first, start + len(part.rstrip()))
            for begin, stop in filter(lambda span: span[0] < span[1], ((start, first), (first, last), (last, end))):
                inside = []
                while breaks and breaks[-1][0] < stop:
                    offset, text = breaks.pop()
                    inside.append((offset - begin, text))
                spans.append(Sentence(self.flat[begin:stop], tuple(inside)))
            start = end
        return [span if needs_translation(span.flat) else span.text for span in spans]

    def rewrap(self, output: str) -> str:
        """Returns an output with the line breaks of the sentence, at places in proportion to the length of its lines.

        A break for which the output has no white space left is omitted.
        """
        wrapped, start = "", 0
        for offset, text in self.breaks:
            wanted = round(offset / len(self.flat) * len(output))
            before, after = output.rfind(" ", start + 1, wanted + 1), output.find(" ", max(wanted, start + 1))
            places = [place for place in (before, after) if place > start]
            if places:
                place = min(places, key=lambda place: abs(place - wanted))
                wrapped, start = wrapped + output[start:place].strip() + text, place + 1
        return wrapped + output[start:]


Piece = str | Sentence
"""A sentence, or text that stays as it is."""


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
    pieces: list[Piece] = []
    for lines in _paragraphs(text, language):
        if isinstance(lines, str):
            pieces.append(lines)
            continue
        width = max(len(line.text.rstrip()) for line in lines)
        full_lines = sum(_is_full(line, following, width) for line, following in pairwise(lines))
        block: list[_Line] = []
        for line in lines:
            if block and not _continues(block[-1], line, width, full_lines):
                pieces += _block(block, language)
                block = []
            block.append(line)
        pieces += _block(block, language)
    return _joined(pieces)


def join(pieces: Iterable[Piece]) -> str:
    """Returns the text of which ``segment`` made these pieces."""
    return "".join(piece if isinstance(piece, str) else piece.text for piece in pieces)


def needs_translation(text: str) -> bool:
    """Returns whether a text has a word: not only numbers, signs, emoji, URLs, e-mail addresses, paths and markup."""
    if not any(map(str.isalpha, text)):
        return False
    words = _MARKUP.sub(" ", text).split()
    return any(any(map(str.isalpha, word)) and not _is_copied(_bare(word)) for word in words)


def _bare(word: str) -> str:
    """Returns a word without the signs around it."""
    return word.strip(_EDGES).rstrip(".")


def _is_copied(word: str) -> bool:
    name, at, domain = word.partition("@")
    return bool(name and at and "." in domain.strip(".") and "@" not in domain) or bool(_COPIED.fullmatch(word))


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
    lines = [_parse(raw, language) for raw in raws]
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
    if _separator(line.content) or _separator(following.content):
        return False
    if not (needs_translation(line.content) and any(map(str.isalpha, following.content))):
        return False
    if _ITEM.match(following.content):
        return full_lines > 1 and _is_full(line, following, width)
    if following.content[0].islower():
        return _is_full(line, following, width) or len(line.text.rstrip()) >= width / 2
    is_likely = full_lines > 1 or width >= _LEAST_WRAP_WIDTH or line.content.split()[-1].islower()
    return is_likely and _is_full(line, following, width)


def _separator(content: str) -> re.Pattern[str] | None:
    """Returns what separates the cells of a line: of a Markdown table, between tabs, of CSV; None for running text."""
    if len(content) > 1 and content[0] == content[-1] == "|":
        return _CELL
    if "\t" in content:
        return _TAB
    fields = _ENTITY.sub("", content)
    return _SEMICOLON if len(_TIGHT.findall(fields)) > 1 and "; " not in fields else None


def _block(lines: list[_Line], language: str) -> list[Piece]:
    """Returns the pieces of lines that are read as one text."""
    first, last = lines[0], lines[-1]
    if separator := _separator(first.content):
        cells = separator.split(first.content)
        inside = [piece for cell in cells for piece in Sentence(cell).cut(_parts(cell, language))]
        return [first.prefix, *inside, first.end]
    breaks, length = [], 0
    for line, following in pairwise(lines):
        length += len(line.content)
        breaks.append((length, line.end + following.prefix))
        length += 1
    flat = " ".join(line.content for line in lines)
    inside = Sentence(flat, tuple(breaks)).cut(_parts(flat, language))
    if any(isinstance(piece, Sentence) and len(piece.breaks) >= _MOST_LINES for piece in inside):
        return [piece for line in lines for piece in _block([line], language)]
    return [first.prefix, *inside, last.end]


def _parts(text: str, language: str) -> list[str]:
    """Returns the sentences of a text, and the marks around them; joined, they are the text."""
    sentences = partial(split_sentences, language=language)
    parts = [text]
    for divide in (_BETWEEN.split, _label, split_marks, split_emoji, sentences, split_marks, _before_copied):
        parts = [part for whole in parts for part in divide(whole) if part]
    return parts


def _label(text: str) -> list[str]:
    """Returns a text in parts where it begins with a label or sentence in bold letters ("**Hinweis:** ...")."""
    label = _LABEL.match(text)
    return [label[1], label[3], text[label.end() :]] if label else [text]


def _before_copied(text: str) -> list[str]:
    """Returns a text in two where what stands after its last colon is copied ("Siehe: https://example.org")."""
    end = max((colon.end() for colon in _COLON.finditer(text)), default=0)
    words = text[end:].split() if end else []
    is_copied = any(map(_is_copied, map(_bare, words))) and not needs_translation(text[end:])
    return [text[:end], text[end:]] if is_copied else [text]


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
