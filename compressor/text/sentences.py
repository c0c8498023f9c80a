"""Splits running text into sentences with ``sentencex``, and corrects what it splits wrongly.

A wrong split costs more than a missing one, because half a sentence is translated wrongly. So a boundary needs white
space, and abbreviations and German ordinals that ``sentencex`` does not know are joined again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import sentencex

WINDOW = 4000
"""Characters that ``sentencex`` gets at once: its time grows with their square in scripts without spaces."""

_LONG = 300
"""Characters of a sentence above which quotations and parentheses are split, too."""

_ABBREVIATIONS = {
    "de": re.compile(
        r"Abb|Abs|allg|Anm|Aufl|Bde?|betr|Bhf|bspw|Bsp|Dipl|dt|ebd|ehem|eigtl|einschl|engl|entspr|exkl|Fa|Frl|frz|geb|"
        r"gem|ggfs|Hbf|Hrn|[Hh]rsg|inkl|insb|insbes|Jh|Kap|lat|max|mind|mtl|nachm|Nrn|Okt|Dez|Pkt|Sek|spez|Tel|tgl|"
        r"urspr|Vol|vorm|zzgl|Ziff|Stk|hl|jur|rer|nat|Abt|stellv|techn|wiss|Pos|Ing|Nr|Hd|Inh|Hl|\w*[Ss]tr"
    )
}
"""Abbreviations that ``sentencex`` takes for the end of a sentence, by language."""

_ORDINALS = {
    "de": re.compile(
        r"\b(?:der|die|das|dem|den|des|am|im|vom|zum|zur|beim|ab|bis|seit|"
        r"(?:ein|kein|mein|dein|sein|ihr|jede|diese)[a-z]{0,2}|anfang|mitte|ende|"
        r"(?:mon|diens|donners|frei|sams|sonn)tag,|mittwoch,) "
        r"(?:\d{1,2}\.(?:,|,? (?:und|oder|bis|bzw\.)) )*\d{1,2}\.\s+$",
        re.IGNORECASE,
    )
}
"""Ends of a piece that are an ordinal number ("im 19. Jahrhundert"), by language."""

_ENCLOSING = dict.fromkeys(map(ord, "\"'„“”‚‘’«»‹›()[]"), " ")
_OPENING = "„‚«‹([“‘\"'"
_NUMBER = re.compile(r"\d+\.\s+")
_NEXT_NUMBER = re.compile(r"(?<=[.!?]\s)\d{1,2}\.\s+$")
_START = re.compile(r"(?<=[.!?])\s+[^\W\d_]")


def split_sentences(text: str, language: str) -> list[str]:
    """Returns the sentences of a text without line breaks; joined, they are the text.

    White space belongs to the sentence before it. The time is linear in the length of the text, unless it has no
    sentence boundary at all.

    Args:
        text: The text, valid Unicode.
        language: Language code; of an unknown one the rules of English are used.
    """
    return [text] if len(text) < 2 else list(_windowed(text, language))


def _windowed(text: str, language: str) -> Iterator[str]:
    """Yields the sentences. The last one of a window goes into the next window, which is wider if it was the only."""
    start, size = 0, WINDOW
    while start < len(text):
        end = min(start + size, len(text))
        if end < len(text):
            end = text.rfind(" ", start + size // 2, end) + 1 or end
        pieces = _split(text[start:end], language)
        if end < len(text):
            pieces.pop()
        yield from pieces
        start += sum(map(len, pieces))
        size = WINDOW if pieces else 2 * size


def _split(text: str, language: str) -> list[str]:
    pieces = []
    segmented = [part for piece in _segmented(text, text, language) for part in _before_number(piece)]
    for piece in _merged(segmented, language):
        if len(piece) > _LONG:
            pieces += _merged(_inside_quotes(piece, language), language)
        else:
            pieces.append(piece)
    return pieces


def _before_number(piece: str) -> list[str]:
    """Returns a piece in two where it is a sentence and the number of the next one ("Ein Hund. 2. ")."""
    number = _NEXT_NUMBER.search(piece)
    return [piece[: number.start()], number[0]] if number else [piece]


def _segmented(text: str, shown: str, language: str) -> list[str]:
    """Returns ``text`` cut where ``sentencex`` cuts ``shown``, which has the same length."""
    shown = shown.replace("`", "*")  # rows of backticks take it quadratic time
    if shown.islower():  # its rules wait for a capital
        capital = _START.sub(lambda start: start[0].upper(), shown)
        shown = capital if len(capital) == len(shown) else shown
    lengths = [len(piece) for piece in sentencex.segment(language, shown)]
    if sum(lengths) != len(text):
        return [text]
    pieces, start = [], 0
    for length in lengths:
        pieces.append(text[start : start + length])
        start += length
    return pieces


def _inside_quotes(text: str, language: str) -> list[str]:
    """Returns the sentences of a long piece, within quotations and parentheses, too."""
    pieces: list[str] = []
    carried = ""  # opening marks that belong to the next sentence
    for piece in _segmented(text, text.translate(_ENCLOSING), language):
        piece, carried = carried + piece, ""
        body = piece.rstrip(_OPENING)
        if body != piece and body[-1:].isspace():
            piece, carried = body, piece[len(body) :]
        pieces.append(piece)
    pieces[-1] += carried
    return pieces


def _merged(pieces: list[str], language: str) -> list[str]:
    """Returns the pieces with those joined that are no whole sentences."""
    merged: list[str] = []
    for piece in pieces:
        if merged and not _is_end(merged[-1], language):
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged


def _is_end(piece: str, language: str) -> bool:
    """Returns whether a sentence can end with this piece."""
    if not piece[-1].isspace():
        return not piece[-1].isascii()  # scripts without spaces have full stops of their own
    if _NUMBER.fullmatch(piece) or (language in _ORDINALS and _ORDINALS[language].search(piece[-30:])):
        return False
    body = piece.rstrip()
    if not body.endswith(".") or language not in _ABBREVIATIONS:
        return True
    word = body[-30:].split()[-1].rstrip(".").lstrip(_OPENING).rpartition("-")[2]
    words = {word, word.lower()} if word + "." == body else {word}  # the first word of a sentence has a capital
    return not any(map(_ABBREVIATIONS[language].fullmatch, words))
