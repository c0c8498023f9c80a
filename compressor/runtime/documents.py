"""Whole texts: their sentences for the model, and the outputs of the sentences put together as the text was.

::

    documents = prepare(texts, encode=..., split="sentences")      # what the model reads
    results = one result for each of the documents' sources        # all sentences of all texts in one call
    documents[0].result(results[: len(documents[0].sources)])      # the text again
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice, repeat
from typing import Literal, NamedTuple, get_args

from compressor.bundle_records import Case
from compressor.errors import InputError, TooLongError
from compressor.runtime.results import Result
from compressor.runtime.sources import Source, Truncation, check_text
from compressor.text.clauses import split_at_clauses
from compressor.text.copied import needs_translation
from compressor.text.letter_case import LetterCase, in_case
from compressor.text.pieces import Piece, Sentence
from compressor.text.segmentation import segment

Split = Literal["sentences", "none"]
"""Whether a text is read sentence by sentence, or whole."""

Overlong = Literal["error", "longest_first", "split"]
"""Treatment of a sentence over the limit: an error, a cut that loses its end, or parts cut at clause boundaries."""

Encode = Callable[[Sequence[str], Truncation], list[Source]]
"""Returns the token ids of texts; raises TooLongError with all that are over the limit."""

_INVISIBLE = dict.fromkeys(
    code
    for codes in (range(9), (0x0B, 0x0C), range(0x0E, 0x20), (0x7F, 0xAD, 0x200B, 0x200E, 0x200F, 0x2060, 0xFEFF),
                  range(0x202A, 0x202F), range(0x2066, 0x206A))
    for code in codes
)  # fmt: skip
"""Control characters, soft hyphens, marks of direction: a model would read a broken word."""

_PART = 2
"""The parts of a sentence have at most the model's limit divided by this: models end early on sources near it."""

_TOKEN_CHARACTERS = 16
"""Characters of a token at most, in nearly every tokenizer: bounds the search for a part that fits."""

_FINISH_REASONS = ("eos", "length", "repetition")
"""From the best to the worst."""

_TARGET_LANGUAGE = re.compile(r"\s*(>>[\w-]{2,20}<<)\s*")
_WITHOUT_SPACES = ("zh", "ja", "th", "lo", "km", "my")


@dataclass(frozen=True)
class Document:
    """A text as the model reads it; the tuples but ``sources`` and ``phrases`` have an entry for each sentence."""

    sentences: tuple[Sentence, ...]
    sources: tuple[Source, ...]
    """What the model reads, in order: each sentence, and before it the phrases that help to place its signs."""
    phrases: tuple[str | None, ...]
    """For each source, the phrase that it is; None: it is a sentence."""
    dropped_tokens: tuple[int, ...]
    """Tokens of each sentence that were cut off."""
    cases: tuple[Case | None, ...]
    """Letter case in which each output is written; None: as the model writes it."""
    leads: tuple[str, ...]
    """What stands before each output."""
    tail: str
    """What stands after the last output; the whole text if nothing of it is translated."""

    def result(self, results: Sequence[Result]) -> Result:
        """Returns the result of the text.

        Args:
            results: Results of ``sources``. That of the only sentence gives its tokens, score and alternatives, too.
        """
        phrases: dict[str, str] = {}
        parts: list[Result] = []
        for result, phrase in zip(results, self.phrases, strict=True):
            if phrase is None:
                text, dropped = self.written(len(parts), result.text, phrases), self.dropped_tokens[len(parts)]
                parts.append(replace(result, text=text, dropped_tokens=dropped))
            else:
                phrases[phrase] = result.text
        text = "".join(lead + part.text for lead, part in zip(self.leads, parts, strict=True)) + self.tail
        if len(parts) == 1:
            (part,), (lead,) = parts, self.leads
            alternatives = tuple(
                replace(one, text=lead + self.written(0, one.text, phrases) + self.tail) for one in part.alternatives
            )
            return replace(part, text=text, alternatives=alternatives)
        return Result(
            text=text,
            token_ids=[token for part in parts for token in part.token_ids],
            input_tokens=sum(part.input_tokens for part in parts),
            output_tokens=sum(part.output_tokens for part in parts),
            truncated=any(part.truncated for part in parts),
            finish_reason=max((part.finish_reason for part in parts), key=_badness, default="eos"),
            dropped_tokens=sum(self.dropped_tokens),
            sentences=tuple(parts),
        )

    def written(self, sentence: int, output: str, phrases: Mapping[str, str]) -> str:
        """Returns the model's output of a sentence in the sentence's letter case, with its line breaks and signs.

        Args:
            sentence: Its index.
            output: The output.
            phrases: Outputs of its phrases.
        """
        return self.sentences[sentence].render(in_case(output, self.cases[sentence]), phrases)

    def anchors(self, text: str, result: Result) -> list[tuple[int, int]]:
        """Returns the ends of each sentence: their offsets in the text, and those in the text of its ``result``."""
        if len(self.sentences) == 1:
            lengths = [len(result.text) - len(self.leads[0]) - len(self.tail)]
        else:
            lengths = [len(part.text) for part in result.sentences]
        anchors, source, target = [], 0, 0
        for sentence, lead, length in zip(self.sentences, self.leads, lengths, strict=True):
            start = max(source, text.find(sentence.text, source))
            source, target = start + len(sentence.text), target + len(lead) + length
            anchors += [(start, target - length), (source, target)]
        return anchors


class DocumentStream:
    """Makes the pieces of a text's output from the pieces of its sources' outputs, which come in order.

    A sentence with line breaks, signs, or a letter case of its own comes as one piece: they need the whole output.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._received: list[list[str]] = [[] for _ in document.sources]
        self._sentences = list(accumulate((phrase is None for phrase in document.phrases), initial=0))
        """For each source, the number of the sentences before it."""
        self._phrases: dict[str, str] = {}

    def opening(self) -> str:
        """Returns the text of a document without sentences, which has no other piece."""
        return "" if self._document.sources else self._document.tail

    def piece(self, source: int, delta: str) -> str:
        """Returns what to hand out for the next piece of a source's output."""
        before, sentence = self._received[source], self._sentences[source]
        before.append(delta)
        if self._document.phrases[source] is not None or self._is_whole(sentence):
            return ""
        return self._document.leads[sentence] + delta if len(before) == 1 else delta

    def end(self, source: int) -> str:
        """Returns what to hand out when a source's output is complete."""
        document, received = self._document, self._received[source]
        sentence, phrase = self._sentences[source], document.phrases[source]
        if phrase is not None:
            self._phrases[phrase] = "".join(received)
            return ""
        text = ""
        if self._is_whole(sentence) or not received:
            text = document.leads[sentence] + document.written(sentence, "".join(received), self._phrases)
        return text + document.tail if source == len(document.sources) - 1 else text

    def _is_whole(self, index: int) -> bool:
        """Returns whether a sentence's output comes as one piece."""
        sentence = self._document.sentences[index]
        return bool(sentence.breaks or sentence.marks) or self._document.cases[index] is not None


class _Divided(NamedTuple):
    """Pieces of a text, and the target language that stood before them."""

    pieces: list[Piece]
    prefix: str = ""


class _Encoded(NamedTuple):
    source: Source
    dropped_tokens: int
    case: Case | None
    phrases: Mapping[str, Source]
    """Sources of the sentence's phrases."""


def prepare(
    texts: Sequence[str],
    *,
    encode: Encode,
    letter_case: LetterCase | None = None,
    split: Split = "sentences",
    truncation: Overlong = "error",
    source_language: str | None = None,
    target_language: str | None = None,
) -> list[Document]:
    """Returns the documents of texts.

    Args:
        texts: Texts. A target language in Marian's way (``>>deu<<``) at the start of one holds for all its sentences.
        encode: Encodes sentences for a model.
        letter_case: Reads sentences in capitals, and the like, in the usual letter case; None: as they stand.
        split: ``sentences``, or ``none``: the model reads the whole text, with spaces for its line breaks.
        truncation: Treatment of a sentence over the limit.
        source_language: Code of the texts' language; its rules divide them into sentences. None: English.
        target_language: Code of the outputs' language; says whether sentences have spaces between them.

    Raises:
        TooLongError: Sentences are over the limit, and ``truncation`` is ``error``; has the index of each text, and
            the length of its longest sentence.
        InputError: An option is unknown, or a text is no string or no valid Unicode.
    """
    _check_choice("split", split, get_args(Split))
    _check_choice("truncation", truncation, get_args(Overlong))
    divided = []
    for index, text in enumerate(texts):
        check_text(index, text)
        divided.append(_divide(text, split, source_language or "en"))
    encoded = _encode(divided, encode, letter_case or LetterCase(), truncation)
    space = "" if (target_language or "").lower()[:2] in _WITHOUT_SPACES else " "
    return [_document(one.pieces, encoded, space) for one in divided]


def default_split(task: str) -> Split:
    """Returns how texts of a task are read: translation by sentences, summarization whole."""
    return "sentences" if task == "translation" else "none"


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        *some, last = map(repr, choices)
        message = f"{{{name}}} is {value!r}: give {', '.join(some)} or {last}"
        raise InputError(message, option=name, actual=value)


def _divide(text: str, split: Split, language: str) -> _Divided:
    if not text.strip():
        return _Divided([text] if "\n" in text else [])  # a blank line stays blank, line breaks stay
    if split == "none":
        lines = text.splitlines()
        whole = text if lines == [text] else " ".join(filter(None, map(str.strip, lines)))
        return _Divided([Sentence(whole) if needs_translation(whole) else text])
    code = _TARGET_LANGUAGE.match(text)
    body = text[code.end() :] if code else text
    return _Divided(segment(body, language), f"{code[1]} " if code else "")


def _encode(
    divided: list[_Divided], encode: Encode, letter_case: LetterCase, truncation: Overlong
) -> Iterator[_Encoded]:
    """Returns an iterator over the token ids of all sentences of all texts.

    For ``truncation="split"`` it replaces sentences over the limit by their parts, in ``divided``.
    """
    units = [(index, piece) for index, one in enumerate(divided) for piece in one.pieces if isinstance(piece, Sentence)]
    readings = [letter_case.read(_visible(sentence.flat)) for _, sentence in units]
    texts = [divided[index].prefix + reading.text for (index, _), reading in zip(units, readings, strict=True)]
    cases = [reading.case for reading in readings]
    try:
        sources = encode(texts, "error")
        phrases = _phrases(divided, units, encode, letter_case)
        return map(_Encoded, sources, repeat(0), cases, phrases)
    except TooLongError as error:
        lengths, limit = dict(error.texts), int(error.limit or 0)
    except InputError as error:
        if error.index is not None:
            error.index = units[error.index][0]
        raise
    if truncation == "longest_first":
        sources = encode(texts, "longest_first")
        dropped = [max(0, lengths.get(unit, 0) - limit) for unit in range(len(units))]
        return map(_Encoded, sources, dropped, cases, _phrases(divided, units, encode, letter_case))
    overlong = {id(units[unit][1]) for unit in lengths}
    if truncation == "split" and any(len(units[unit][1].flat) > 1 for unit in lengths):
        for index, one in enumerate(divided):

            def fits(part: str, prefix: str = one.prefix) -> bool:
                (source,) = encode([prefix + letter_case.read(_visible(part)).text], "longest_first")
                return not source.truncated and len(source.token_ids) <= max(1, limit // _PART)

            divided[index] = one._replace(pieces=list(_cut(one.pieces, overlong, fits, limit)))
        return _encode(divided, encode, letter_case, "error")
    raise _too_long([(units[unit][0], length) for unit, length in lengths.items()], limit, divided)


def _phrases(
    divided: Sequence[_Divided], units: Sequence[tuple[int, Sentence]], encode: Encode, letter_case: LetterCase
) -> list[dict[str, Source]]:
    """Returns the phrases of each sentence with their sources; those of a text are read once, for the first of them."""
    phrases = [sentence.phrases for _, sentence in units]
    rows = dict.fromkeys((index, phrase) for (index, _), own in zip(units, phrases, strict=True) for phrase in own)
    if not rows:
        return [{} for _ in units]
    texts = [divided[index].prefix + letter_case.read(_visible(phrase)).text for index, phrase in rows]
    sources = dict(zip(rows, encode(texts, "longest_first"), strict=True))
    encoded: list[dict[str, Source]] = []
    for (index, _), own in zip(units, phrases, strict=True):
        once = {phrase: sources.pop((index, phrase), None) for phrase in own}
        encoded.append({phrase: source for phrase, source in once.items() if source and not source.truncated})
    return encoded


def _visible(text: str) -> str:
    """Returns a text without the characters that nobody sees."""
    return text if text.isascii() and text.isprintable() else text.translate(_INVISIBLE)


def _too_long(sentences: list[tuple[int, int]], limit: int, divided: list[_Divided]) -> TooLongError:
    """Returns the error about sentences over the limit, each given by the index of its text and its length."""
    longest: dict[int, int] = {}
    for index, length in sentences:
        longest[index] = max(length, longest.get(index, 0))
    several = [index for index in longest if sum(isinstance(piece, Sentence) for piece in divided[index].pieces) > 1]
    return TooLongError(list(longest.items()), limit, several)


def _cut(pieces: Sequence[Piece], overlong: set[int], fits: Callable[[str], bool], limit: int) -> Iterator[Piece]:
    """Yields the pieces of a text, with parts in place of the sentences whose ``id`` is in ``overlong``."""
    for piece in pieces:
        if isinstance(piece, Sentence) and id(piece) in overlong:
            yield from piece.cut(split_at_clauses(piece.flat, fits, _TOKEN_CHARACTERS * limit))
        else:
            yield piece


def _document(pieces: Sequence[Piece], encoded: Iterator[_Encoded], space: str) -> Document:
    """Returns the document of a text, taking the token ids of its sentences from ``encoded``."""
    sentences: list[Sentence] = []
    leads: list[str] = []
    between = ""
    for piece in pieces:
        if isinstance(piece, str):
            between += piece
            continue
        if sentences and not between and not sentences[-1].flat[-1].isalnum():
            between = space  # the source's script has no spaces between sentences
        leads.append(between)
        sentences.append(piece)
        between = ""
    mine = list(islice(encoded, len(sentences)))
    sources = [row for one in mine for row in [*one.phrases.items(), (None, one.source)]]
    return Document(
        sentences=tuple(sentences),
        sources=tuple(source for _, source in sources),
        phrases=tuple(phrase for phrase, _ in sources),
        dropped_tokens=tuple(one.dropped_tokens for one in mine),
        cases=tuple(one.case for one in mine),
        leads=tuple(leads),
        tail=between,
    )


def _badness(finish_reason: str) -> int:
    return _FINISH_REASONS.index(finish_reason) if finish_reason in _FINISH_REASONS else len(_FINISH_REASONS)
