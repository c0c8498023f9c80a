"""Reads sentences in capitals, with a capital at every word, or without any, in the case that models know.

Models have seen few such sentences, and translate them badly. A tokenizer trained on ordinary text knows how words are
written in it: of ``hund`` and ``Hund``, the likelier one under its unigram probabilities is the usual one. So the
sentence is read in that case, and its output is written in the case that the sentence had::

    letter_case = LetterCase(("upper", "title", "lower"), tokenizer.log_probability, "de")
    letter_case.read("DER HUND BELLT!")      # Reading("Der Hund bellt!", "upper")
    in_case("The dog barks!", "upper")       # "THE DOG BARKS!"

Kinds of case: ``upper``: all letters are capitals; ``title``: every word begins with one; ``lower``: none is one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import NamedTuple, get_args

from compressor.bundle_records import Case
from compressor.text.copied import needs_translation

CASES: tuple[Case, ...] = get_args(Case)

_FEWEST_LETTERS = 4
"""Of a text in capitals; shorter ones may be acronyms."""
_FEWEST_WORDS = {"title": 4, "lower": 3}
"""Of a text in that case; shorter ones may be names or entries of a dictionary."""
_MARGINS: dict[Case, float] = {"upper": 1.0, "title": 1.0, "lower": 2.0}
"""By how much the logarithm of a capital's probability must be higher. Sentences begin with a capital, so it is
likelier than within them; and in small letters, ``sie`` (she) is not to become ``Sie`` (you)."""
_FREQUENT = -10.0
"""Least log probability of a word such as ``und`` or ``ist``, which tells title case from a row of names and nouns."""

_SPACE = re.compile(r"(\s+)")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_FIRST_LETTER = re.compile(r"\W*([^\W\d_])")
_STOP = re.compile(r"\w{3}[.!?…][\"'“”»)]*$")
"""End of a sentence; shorter words may be abbreviations."""


class Reading(NamedTuple):
    """A sentence as a model reads it."""

    text: str
    case: Case | None
    """The case that the sentence has; None if it is read as it stands."""


class LetterCase:
    """Reads sentences of some cases in the usual one.

    Args:
        cases: Cases that are read differently.
        log_probability: Returns the logarithm of a text's probability; only differences count.
        language: Code of the sentences' language; in German, ``SS`` may be ``ß``.
    """

    def __init__(
        self,
        cases: Collection[Case] = (),
        log_probability: Callable[[str], float] = lambda text: 0.0,
        language: str | None = None,
    ) -> None:
        self._cases, self._log_probability = frozenset(cases), log_probability
        self._has_sharp_s = (language or "").lower()[:2] == "de"

    def read(self, sentence: str) -> Reading:
        """Returns what the model is to read; the sentence itself if it is in the usual case already."""
        case = case_of(sentence) if self._cases else None
        if case is None or case not in self._cases or (case == "title" and not self._is_title(sentence)):
            return Reading(sentence, None)
        pieces, starts = _SPACE.split(sentence), case != "lower"
        for place, piece in enumerate(pieces):
            if needs_translation(piece):
                piece = self._usual(piece, case, _MARGINS[case])
                pieces[place] = _with_capital(piece) if starts else piece
            if not piece.isspace():
                starts = case != "lower" and bool(_STOP.search(piece))
        usual = "".join(pieces)
        return Reading(usual, case) if usual != sentence else Reading(sentence, None)

    def _is_title(self, sentence: str) -> bool:
        """Returns whether a word after the first is a frequent one that usually has no capital."""
        words = [match[0] for match in map(_WORD.search, sentence.split()[1:]) if match]
        return any(
            self._log_probability(word.lower()) > max(_FREQUENT, self._log_probability(word) + _MARGINS["title"])
            for word in words
        )

    def _usual(self, piece: str, case: Case, margin: float) -> str:
        """Returns a piece between white space with its words in their likeliest spelling."""
        return _WORD.sub(lambda word: self._spelling(word[0], case, margin), piece)

    def _spelling(self, word: str, case: Case, margin: float) -> str:
        lower = word.lower()
        if case != "upper" and word not in (lower, _with_capital(lower)):
            return word  # USB or LaTeX in a text that is not in capitals
        spellings = [lower]
        if self._has_sharp_s and case == "upper" and "ss" in lower:
            spellings += [lower.replace("ss", "ß"), lower.replace("ss", "ß", 1)]
        capitals = list(map(_with_capital, spellings)) + ([word] if case == "upper" else [])
        spelling = max(spellings, key=self._log_probability)
        capital = max(capitals, key=self._log_probability)
        is_likelier = self._log_probability(capital) > self._log_probability(spelling) + margin
        return capital if is_likelier else spelling


def case_of(text: str) -> Case | None:
    """Returns the case of a text of several words; None for ordinary text, and for scripts without capitals."""
    words, starts = [], set()
    for word in filter(needs_translation, text.split()):
        words.append(word)
        if first := _FIRST_LETTER.match(word):
            starts.add(first[1].isupper())
        if len(starts) == 2:
            return None
    letters = "".join(words)
    if letters.isupper():
        return "upper" if sum(map(str.isalpha, letters)) >= _FEWEST_LETTERS else None
    case: Case = "title" if True in starts else "lower"
    return case if len(words) >= _FEWEST_WORDS[case] and (case == "title" or letters.islower()) else None


def in_case(text: str, case: Case | None) -> str:
    """Returns an output in the case of its sentence; what is copied, such as a URL, stays as it is.

    The output of a sentence in lower case is not changed: the model writes it as it should be.
    """
    if case not in ("upper", "title"):
        return text
    change = str.upper if case == "upper" else _with_capital
    return "".join(change(piece) if needs_translation(piece) else piece for piece in _SPACE.split(text))


def _with_capital(piece: str) -> str:
    """Returns a word and signs before it with its first letter as a capital."""
    first = _FIRST_LETTER.match(piece)
    return piece[: first.start(1)] + first[1].upper() + piece[first.end(1) :] if first else piece
