"""Finds what a translation has exactly as its source: addresses, paths, files, placeholders, other scripts.

Models translate the words in an address, lose braces, and write nonsense for letters that they have never met.
"""

from __future__ import annotations

import re
from collections.abc import Iterator


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FILE_TYPES = _words(
    "bat bin bmp c cfg conf cpp css csv deb dll doc docx exe gif gz h htm html ico ini iso jar java jpeg jpg js json "
    "log md mp3 mp4 odp ods odt pdf php png ppt pptx py rar rpm rs sh sql svg tar tex tgz tif tiff toml ts tsv txt wav "
    "webp xls xlsx xml yaml yml zip"
)
_DOMAINS = _words("at be biz ch com cz de dk edu eu fr gov info int io li lu mil net nl org pl ru tv uk")
"""Ends of names that need no other sign of an address; words that often follow a stop without a space are not there."""
_LITERAL = re.compile(  # possessive, so that a long word takes linear time
    r"(?<![A-Za-z\d+.-])[A-Za-z][A-Za-z\d+.-]*+://\S+|(?<!\w)www\.[\w-]+\.\S+"
    r"|(?<![\w.+-])[\w.+-]++@[\w-]++(?:\.[\w-]++)++"
    r"|(?<![\w.@/-])(?P<dotted>[\w-]++(?:\.[\w-]++)++)(?:[/:?#]\S*)?"
    r"|(?<!\w)[A-Za-z]:\\\S+|(?<!\S)\\\\\S+"  # C:\..., \\server
    r"|(?<![^\s(\"'„“‚‘»«])(?:(?:~|\.{1,2})/[\w.@+-]|/[\w.@+-]{2})[\w.@+~-]*+(?:/[\w.@+~-]*+)*+"  # paths
    r"|[$%#]?\{\{?\s?[\w.$:|#/-]*+\s?\}\}?|%\(\w++\)[A-Za-z]|%[A-Za-z_]\w++%|\$[A-Za-z_]\w*+(?!\$)(?:=\S+)?"
    r"|(?<!\w)[A-Za-z\d]++(?:_[A-Za-z\d]++)++(?!\w)|(?<!\S)--[A-Za-z][\w-]*+(?:=\S+)?"
    r"|</?s>|<(?:pad|unk)>"  # control tokens of models
    r"|(?<![\w.,])(?:\+\d{1,3}|0\d{1,5}[ /-])(?:[ /()-]{0,2}\d){5,14}(?![\w])"  # telephone
    r"|(?<!\w)[A-Z]{2}\d{2}(?: ?[\dA-Z]{4}){3,7}(?: ?[\dA-Z]{1,3})?(?!\w)"  # IBAN
)
_END_OF_SENTENCE = re.compile(r"[.,;:!?'\"”“’‘»«…*_>\]]+$")
_JOINT = re.compile(r"[./:=@_%#+-]{0,2}")
"""Between two parts of one literal: ``%(model)s.%(field)s``."""
_OTHER_SCRIPTS = (
    "\u0370-\u1dbf\u1f00-\u1fff"  # from Greek to Khmer, Georgian, Cherokee and the like
    "\u2c00-\u2c5f\u2c80-\u2dff\u2e80-\u303f\u3041-\ua71f\ua800-\uab2f\uab70-\ufaff\ufb13-\ufdff\ufe70-\ufeff"
    "\uff01-\uff20\uff66-\uffdc"
    "\U00010000-\U0001d3ff\U0001e000-\U0001efff\U00020000-\U0003ffff"
)
_OTHER_LETTERS = re.compile(
    rf"(?:(?=[^\W\d_])[{_OTHER_SCRIPTS}])[{_OTHER_SCRIPTS}\u0300-\u036f\u200c\u200d]*"
    rf"(?:[ ,'’·-]+[{_OTHER_SCRIPTS}][{_OTHER_SCRIPTS}\u0300-\u036f\u200c\u200d]*)*"
)
_LATIN = _words(
    "af bs ca cs cy da de en eo es et eu fi fo fr fy ga gd gl hr ht hu id is it la lb lt lv ms mt nb nl nn no oc pl pt "
    "ro sk sl sq sv sw tl tr vi"
)
"""Languages in Latin letters."""


def literal_spans(text: str, language: str) -> Iterator[tuple[int, int]]:
    """Yields the spans, in order and apart from each other.

    Args:
        text: A text.
        language: Code of its language: in one with Latin letters, letters of other scripts are literals.
    """
    first = last = 0
    for start, end in sorted([*_named(text), *(_foreign(text) if language in _LATIN else ())]):
        if start < last:
            continue
        if last and _JOINT.fullmatch(text, last, start):
            last = end
            continue
        if last:
            yield first, last
        first, last = start, end
    if last:
        yield first, last


def _named(text: str) -> Iterator[tuple[int, int]]:
    for match in _LITERAL.finditer(text):
        word, dotted = match[0], match["dotted"]
        if dotted and not _is_name(*dotted.rpartition(".")[::2]):
            continue
        if word[-1] not in "}>":
            word = _END_OF_SENTENCE.sub("", word)
            if word.endswith(")") and word.count(")") > word.count("("):
                word = _END_OF_SENTENCE.sub("", word[:-1])
        if word:
            yield match.start(), match.start() + len(word)


def _is_name(stem: str, end: str) -> bool:
    """Returns whether words with stops between them are a file or a domain: not ``d.h``."""
    return (end in _DOMAINS or end.lower() in _FILE_TYPES) and len(stem) + len(end) > 3


def _foreign(text: str) -> Iterator[tuple[int, int]]:
    return (match.span() for match in _OTHER_LETTERS.finditer(text)) if not text.isascii() else iter(())
