"""Sentences in capitals, with a capital at every word, or with none, are read as they are usually written."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from compressor.data.examples import Example
from compressor.data.text_changes import title_case, upper_case
from compressor.text.letter_case import CASES, LetterCase, Reading, case_of, in_case
from compressor.text.tokenizer import load_tokenizer

PUBLISHED = Path(__file__).parents[2] / "examples" / "de-en" / "tokenizer"
PROBABILITIES = {"der": -1.0, "Hund": -2.0, "sieht": -2.0, "weiß": -2.0, "USB": -3.0, "in": -1.0, "In": -1.5}


def log_probability(text: str) -> float:
    return PROBABILITIES.get(text, -9.0)


LETTER_CASE = LetterCase(CASES, log_probability, "de")


@pytest.mark.parametrize(
    ("text", "case"),
    [
        ("DER HUND", "upper"),
        ("ACHTUNG!", "upper"),
        ("DER HUND AUF www.example.org", "upper"),
        ("USB", None),
        ("Der Hund Bellt Laut", "title"),
        ("Der Hund Bellt", None),
        ("„Der“ (Hund) Bellt Am 3. Mai", "title"),
        ("Der Hund", None),
        ("der hund bellt", "lower"),
        ("der hund", None),
        ("Der Hund bellt", None),
        ("DER HUND bellt", None),
        ("犬が吠える 犬が吠える 犬が吠える", None),
        ("12 + 3 = 15", None),
        ("", None),
    ],
)
def test_case_of_a_text(text: str, case: str | None) -> None:
    assert case_of(text) == case


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("DER HUND SIEHT", ("Der Hund sieht", "upper")),
        ("„DER HUND“ SIEHT!", ("„Der Hund“ sieht!", "upper")),
        ("HUND-USB SIEHT ICH/DER", ("Hund-USB sieht ich/der", "upper")),
        ("DER HUND WEISS", ("Der Hund weiß", "upper")),
        ("DER HUND SIEHT. DER HUND", ("Der Hund sieht. Der Hund", "upper")),
        ("DER HUND {name} SIEHT %1$s", ("Der Hund {name} sieht %1$s", "upper")),
        ("Der Hund Sieht In", ("Der Hund sieht in", "title")),
        ("www.example.org Sieht Der In Sieht", ("www.example.org sieht der in sieht", "title")),
        ("Der Hund USB Bellt Laut", ("Der Hund USB Bellt Laut", None)),  # no frequent word: a row of names
        ("Der Hund USB Sieht Hund", ("Der Hund USB sieht Hund", "title")),
        ("der hund sieht", ("der Hund sieht", "lower")),
        ("der %hund% sieht der hund", ("der %hund% sieht der Hund", "lower")),
        ("der in sieht", ("der in sieht", None)),  # as usual
        ("Der Hund sieht.", ("Der Hund sieht.", None)),
    ],
)
def test_words_are_read_in_their_likeliest_spelling(sentence: str, expected: tuple[str, str | None]) -> None:
    assert LETTER_CASE.read(sentence) == Reading(*expected)  # type: ignore[arg-type]


def test_other_cases_are_read_as_they_stand() -> None:
    assert LetterCase(["lower"], log_probability).read("DER HUND SIEHT") == Reading("DER HUND SIEHT", None)
    assert LetterCase().read("der hund sieht") == Reading("der hund sieht", None)


def test_only_german_has_a_sharp_s() -> None:
    assert LetterCase(CASES, log_probability, "en").read("DER WEISS").text == "Der weiss"


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("upper", "THE “DOG” DOESN'T BARK AT www.example.org,\n{name} OR %1$s."),
        ("title", "The “Dog” Doesn't Bark At www.example.org,\n{name} Or %1$s."),
        ("lower", "the “dog” doesn't bark at www.example.org,\n{name} or %1$s."),
        (None, "the “dog” doesn't bark at www.example.org,\n{name} or %1$s."),
    ],
)
def test_outputs_get_the_case_of_their_sentence(case: str | None, expected: str) -> None:
    assert in_case("the “dog” doesn't bark at www.example.org,\n{name} or %1$s.", case) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "sentence",
    [
        "Die Größe der Datei ist nicht bekannt.",
        "Ich weiß, dass die Straße lang ist.",
        "Das Buch liegt auf dem Tisch.",
        "Wir haben das Haus in den USA gesehen.",
    ],
)
def test_the_published_tokenizer_knows_german(sentence: str) -> None:
    letter_case = LetterCase(CASES, load_tokenizer(PUBLISHED).log_probability, "de")
    for change in (upper_case, title_case):
        changed = change(Example(sentence), random.Random(0)).source
        assert changed != sentence and letter_case.read(changed).text == sentence
