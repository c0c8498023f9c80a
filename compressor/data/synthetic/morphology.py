"""Inflection in both languages: German articles, endings and verb forms, English verb forms."""

from __future__ import annotations

import re

from compressor.data.synthetic.lexicon import Adjective, Noun, Verb

# Endings by gender (m f n, p for plural) and case, nominative accusative dative.
CASES = ("nom", "acc", "dat")
DEFINITE = {
    "m": ("der", "den", "dem"), "f": ("die", "die", "der"), "n": ("das", "das", "dem"), "p": ("die", "die", "den"),
}  # fmt: skip
_DER = {"m": ("er", "en", "em"), "f": ("e", "e", "er"), "n": ("es", "es", "em"), "p": ("e", "e", "en")}
_EIN = {"m": ("", "en", "em"), "f": ("e", "e", "er"), "n": ("", "", "em"), "p": ("e", "e", "en")}
_AFTER_DER = {"m": ("e", "en", "en"), "f": ("e", "e", "en"), "n": ("e", "e", "en"), "p": ("en", "en", "en")}
_AFTER_EIN = {"m": ("er", "en", "en"), "f": ("e", "e", "en"), "n": ("es", "es", "en"), "p": ("en", "en", "en")}
RELATIVE = DEFINITE | {"p": ("die", "die", "denen")}

PERSONS = ("1s", "2s", "3s", "1p", "3p")
_HABEN = dict(zip(PERSONS, ("habe", "hast", "hat", "haben", "haben"), strict=True))
_SEIN = dict(zip(PERSONS, ("bin", "bist", "ist", "sind", "sind"), strict=True))
_WERDEN = dict(zip(PERSONS, ("werde", "wirst", "wird", "werden", "werden"), strict=True))
_MODALS = {
    "können": "kann",
    "müssen": "muss",
    "wollen": "will",
    "sollen": "soll",
    "dürfen": "darf",
    "möchten": "möchte",
}

_DOUBLING = re.compile(r"^(get|swim|forget)$")


def determiner(word: str, gender: str, case: str) -> str:
    """Inflects a determiner: ``der``, the stem of a der-word (``dies``, ``jed``), or an ein-word (``unser``)."""
    index = CASES.index(case)
    if word == "der":
        return DEFINITE[gender][index]
    if word in ("dies", "jed"):
        return word + _DER[gender][index]
    return word + _EIN[gender][index]


def adjective(word: Adjective, after: str, gender: str, case: str) -> str:
    """Inflects an attributive adjective after a determiner; after a number (``""``) its ending marks the case."""
    index = CASES.index(case)
    endings = _AFTER_DER if after in ("der", "dies", "jed") else _AFTER_EIN if after else _DER
    return word.stem + endings[gender][index]


def noun(word: Noun, plural: bool, case: str) -> str:
    """Inflects a noun: dative plurals end in -n, weak masculines in -n except in the nominative."""
    if plural:
        return word.plural + ("n" if case == "dat" and not word.plural.endswith(("n", "s")) else "")
    return word.plural if word.weak and case != "nom" else word.singular


def present(verb: Verb, person: str) -> str:
    """Present tense of a verb, without its prefix."""
    if person == "1s":
        return (verb.base[:-2] if verb.base.endswith("en") else verb.base[:-1]) + "e"
    if person == "2s":
        stem = verb.third[:-1]
        return verb.third if stem.endswith(("s", "ß", "z")) else stem + "st"
    return verb.third if person == "3s" else verb.base


def auxiliary(name: str, person: str) -> str:
    """Present tense of haben, sein, werden or a modal verb."""
    if name in ("haben", "sein", "werden"):
        return {"haben": _HABEN, "sein": _SEIN, "werden": _WERDEN}[name][person]
    if person in ("1p", "3p"):
        return name
    singular = _MODALS[name]
    return singular + ("t" if singular.endswith("ss") else "st") if person == "2s" else singular


def be(person: str, past: bool = False) -> str:
    """Present or past tense of English to be."""
    if past:
        return "was" if person in ("1s", "3s") else "were"
    return {"1s": "am", "3s": "is"}.get(person, "are")


def third(verb: str) -> str:
    """English third person singular."""
    if verb in ("do", "go"):
        return verb + "es"
    if re.search("[^aeo]y$", verb):
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("s", "x", "ch", "sh")) else "s")


def progressive(verb: str) -> str:
    """English -ing form."""
    if _DOUBLING.match(verb):
        return verb + verb[-1] + "ing"
    return (verb[:-1] if verb.endswith("e") and not verb.endswith(("ee", "ye")) else verb) + "ing"


def with_article(words: str) -> str:
    """Puts a or an before a phrase."""
    return ("an " if words[0] in "aeiou" else "a ") + words
