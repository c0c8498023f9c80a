"""Draws noun phrases and adverbials in both languages."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from compressor.data.synthetic import numbers
from compressor.data.synthetic.lexicon import (
    CITIES,
    MEN,
    PLACES,
    SPOUSES,
    WOMEN,
    Noun,
    adjectives_of,
    nouns_of,
    pairs,
    rows,
)
from compressor.data.synthetic.morphology import (
    CASES,
    adjective,
    determiner,
    noun,
    with_article,
)
from compressor.data.synthetic.numbers import Pair

_POSSESSIVES = (("mein", "my"), ("dein", "your"), ("sein", "his"), ("ihr", "her"), ("unser", "our"))

# nominative accusative dative | English subject object | person
_PRONOUNS = """
ich mich mir | I me | 1s; du dich dir | you you | 2s; er ihn ihm | he him | 3s; sie sie ihr | she her | 3s
wir uns uns | we us | 1p; sie sie ihnen | they them | 3p
"""
_PAST = "gestern=yesterday heute=today gestern_Abend=last_night letzte_Woche=last_week letzten_Sommer=last_summer"
_FUTURE = """
morgen=tomorrow heute_Abend=tonight nächste_Woche=next_week nächsten_Monat=next_month übermorgen=the_day_after_tomorrow
"""
_HABIT = (
    "jeden_Tag=every_day jeden_Morgen=every_morning am_Wochenende=on_the_weekend im_Sommer=in_summer nachts=at_night"
)
_DAYS = ("gestern", "heute", "gestern Abend", "morgen", "übermorgen")  # may be followed by a time of day
_FREQUENCY = "oft=often immer=always manchmal=sometimes selten=rarely nie=never"
_WEEKDAYS = "Montag=Monday Dienstag=Tuesday Mittwoch=Wednesday Donnerstag=Thursday Freitag=Friday Samstag=Saturday"


@dataclass(frozen=True)
class Phrase:
    """A noun phrase. ``german`` maps case to text, ``person`` is that of the verb; the ``gender`` of a plural is p."""

    german: dict[str, str]
    english: str
    english_object: str
    person: str
    gender: str = "m"
    pronoun: bool = False


def name(rng: Random) -> Phrase:
    """Draws the name of one person, or of two."""
    if rng.random() < 0.15:
        one, two = rng.sample((WOMEN + " " + MEN).split(), 2)
        return _fixed(f"{one} und {two}", f"{one} and {two}", "3p", "p")
    gender, names = rng.choice((("f", WOMEN), ("m", MEN)))
    person = rng.choice(names.split())
    return _fixed(person, person, "3s", gender)


def pronoun(rng: Random, *, not_person: str = "") -> Phrase:
    """Draws a personal pronoun of a person other than ``not_person`` (ich with mich would be reflexive)."""
    while True:
        german, english, person = rng.choice(rows(_PRONOUNS))
        if person != not_person:
            subject, as_object = english.split()
            return Phrase(dict(zip(CASES, german.split(), strict=True)), subject, as_object, person, pronoun=True)


def noun_phrase(rng: Random, kind: str, *, negative: bool = False) -> Phrase:
    """Draws a noun of a class with a determiner, perhaps an adjective; ``negative`` uses kein (not a, not any)."""
    word = rng.choice(nouns_of(kind))
    plural = rng.random() < 0.3
    choice = rng.random()
    if negative:
        return _phrase(rng, word, plural, "kein", "any" if plural else "a")
    if kind == "person" and choice < 0.3 and not plural:
        return _phrase(rng, word, plural, *rng.choice(_POSSESSIVES))
    if plural and choice < 0.4:
        return _counted(rng, word)
    if choice < 0.6:
        return _phrase(rng, word, plural, "der", "the")
    if choice < 0.7:
        return _phrase(rng, word, plural, "dies", "these" if plural else "this")
    if choice < 0.85 or plural:
        return _phrase(rng, word, plural, *rng.choice(_POSSESSIVES))
    return _phrase(rng, word, plural, "ein", "a")


def definite(rng: Random, kind: str) -> Phrase:
    """Draws a noun of a class with the definite article."""
    return _phrase(rng, rng.choice(nouns_of(kind)), rng.random() < 0.25, "der", "the")


def subject(rng: Random) -> Phrase:
    """Draws a subject: a pronoun, a name or a person."""
    choice = rng.random()
    return pronoun(rng) if choice < 0.4 else name(rng) if choice < 0.65 else noun_phrase(rng, "person")


def city(rng: Random) -> Pair:
    """Draws a city as a destination."""
    german, english = rng.choice(pairs(CITIES))
    return f"nach {german}", f"to {english}"


def place(rng: Random) -> Pair:
    """Draws a place where something happens."""
    german, english = rng.choice(rows(PLACES))
    return german, english


def frequency(rng: Random) -> Pair:
    """Draws an adverb of frequency, which precedes the English verb."""
    return rng.choice(pairs(_FREQUENCY))


def time(rng: Random, tense: str) -> Pair:
    """Draws a time for ``tense``: ``past``, ``future`` or ``habit``."""
    if tense == "habit":
        return rng.choice(pairs(_HABIT))
    kind = rng.randrange(5)
    if kind == 0:
        return numbers.ago(rng) if tense == "past" else _weekday(rng)
    if kind == 1:
        date = numbers.date(rng)
        return date if tense == "past" or not date[0].startswith("im Jahr") else _weekday(rng)
    if kind == 2:
        return _weekday(rng) if rng.random() < 0.5 else numbers.clock(rng)
    german, english = rng.choice(pairs(_PAST if tense == "past" else _FUTURE))
    if kind == 3 and german in _DAYS:
        clock = numbers.clock(rng)
        return f"{german} {clock[0]}", f"{english} {clock[1]}"
    return german, english


def _weekday(rng: Random) -> Pair:
    """Draws a day of the week, with its preposition."""
    german, english = rng.choice(pairs(_WEEKDAYS))
    return f"am {german}", f"on {english}"


def _fixed(german: str, english: str, person: str, gender: str) -> Phrase:
    """Returns a phrase that is the same in every case."""
    return Phrase(dict.fromkeys(CASES, german), english, english, person, gender)


def _counted(rng: Random, word: Noun) -> Phrase:
    """Draws a number and puts it before the plural of a noun."""
    german, english = numbers.count(rng)
    return _phrase(rng, word, True, german, english, counted=True)


def _phrase(rng: Random, word: Noun, plural: bool, det: str, english: str, *, counted: bool = False) -> Phrase:
    """Returns determiner, perhaps an adjective, and noun, inflected for every case."""
    kind = "person" if "person" in word.classes else "thing"
    attribute = rng.choice(adjectives_of(kind)) if rng.random() < 0.35 and "animal" not in word.classes else None
    gender = "p" if plural else word.gender
    german = {}
    for case in CASES:
        words = [det if counted else determiner(det, gender, case)]
        if attribute:
            words.append(adjective(attribute, "" if counted else det, gender, case))
        german[case] = " ".join([*words, noun(word, plural, case)])
    noun_words = word.english_plural if plural else word.english
    if (det, english) in _POSSESSIVES:
        noun_words = SPOUSES.get(noun_words, noun_words)
    described = f"{attribute.english} {noun_words}" if attribute else noun_words
    whole = with_article(described) if english == "a" else f"{english} {described}"
    return Phrase(german, whole, whole, "3p" if plural else "3s", gender)
