"""Draws sentence pairs of the embedded German-English corpus from a synchronous grammar.

The grammar covers what is hard to translate from German: verbs at the end of subordinate clauses, separable prefixes
and participles far from their verb, case and gender in articles and adjectives, compounds, nicht and kein, and times of
day where half counts towards the next hour.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from compressor.data.synthetic import numbers, phrases
from compressor.data.synthetic.clauses import (
    MODALS,
    Clause,
    english_infinitive,
    english_main,
    english_predicate,
    english_question,
    german_infinitive,
    german_last,
    german_main,
    words,
)
from compressor.data.synthetic.lexicon import (
    Adjective,
    Verb,
    adjectives_of,
    verbs,
)
from compressor.data.synthetic.morphology import RELATIVE, auxiliary, be
from compressor.data.synthetic.numbers import Pair
from compressor.data.synthetic.phrases import Phrase

SHORTEST, LONGEST = 4, 16  # words of either side

_SUBORDINATE = (
    ("weil", "because"),
    ("obwohl", "although"),
    ("wenn", "when"),
    ("während", "while"),
    ("bevor", "before"),
)
_COORDINATE = (("und", "and"), ("aber", "but"))
_OPINIONS = (
    ("Ich glaube, dass", "I think that"), ("Wir wissen, dass", "We know that"), ("Ich hoffe, dass", "I hope that"),
    ("Er sagt, dass", "He says that"), ("Sie hat erzählt, dass", "She said that"),
    ("Ich weiß nicht, ob", "I do not know whether"), ("Sie fragen, ob", "They ask whether"),
    ("Es ist schade, dass", "It is a pity that"),
)  # fmt: skip
_QUESTION_WORDS = (("Warum", "Why"), ("Wann", "When"), ("Wie oft", "How often"))
_ATTEMPTS = (
    ("{} versucht,", "{} tries"), ("{} hat vergessen,", "{} forgot"), ("{} hat beschlossen,", "{} decided"),
    ("{} hat versprochen,", "{} promised"),
)  # fmt: skip


def sentence_pair(rng: Random) -> Pair:
    """Draws one German sentence and its English translation."""
    while True:
        frame = rng.choices([frame for frame, _ in _FRAMES], [weight for _, weight in _FRAMES])[0]
        german, english = frame(rng)
        german, english = german[0].upper() + german[1:], english[0].upper() + english[1:]
        if all(SHORTEST <= len(side.split()) <= LONGEST for side in (german, english)):
            return german, english


def _clause(rng: Random, *, subject: Phrase | None = None, short: bool = False, verb: Verb | None = None) -> Clause:
    """Draws a clause; ``short`` omits most times and places."""
    verb = verb or rng.choice(verbs())
    subject = subject or phrases.subject(rng)
    tenses = ("present", "perfect", "perfect", "progressive", "future", rng.choice(MODALS), "planned")
    tense = rng.choice(tenses[:-1] if short else tenses)
    when = {"perfect": "past", "present": "habit"}.get(tense, "future")
    time = phrases.time(rng, when) if tense == "planned" or (rng.random() < 0.5 and not short) else None
    if tense == "progressive":
        time = None
    negative = rng.random() < 0.2
    with_kein = negative and bool(verb.objects) and verb.objects not in ("person", "city") and rng.random() < 0.6
    thing = _object(rng, verb, subject, with_kein)
    if thing and thing.german["acc"].split()[0] in ("ein", "eine", "einen"):  # its negation would be kein
        negative = False
    habit = tense == "present" and time is None and not negative and rng.random() < 0.5
    return Clause(
        subject,
        verb,
        tense,
        object=thing,
        indirect=_receiver(rng, subject) if verb.ditransitive else None,
        destination=phrases.city(rng) if verb.objects == "city" else None,
        # English puts the negation of kein on its verb, too; German has it in the object.
        negated=negative and not with_kein,
        frequency=phrases.frequency(rng) if habit else None,
        gladly=tense == "present" and not habit and rng.random() < 0.3,
        time=time,
        place=phrases.place(rng) if verb.objects != "city" and rng.random() < (0.1 if short else 0.25) else None,
        price=numbers.price(rng) if verb.english in ("buy", "sell") and rng.random() < 0.5 else None,
    )


def _object(rng: Random, verb: Verb, subject: Phrase, with_kein: bool) -> Phrase | None:
    """Draws the object that a verb takes; None for a verb without one."""
    if verb.objects in ("", "city"):
        return None
    if verb.objects == "person":
        choice = rng.random()
        if choice < 0.4:
            return phrases.pronoun(rng, not_person=subject.person)
        return phrases.name(rng) if choice < 0.55 else phrases.noun_phrase(rng, "person")
    return phrases.noun_phrase(rng, verb.objects, negative=with_kein)


def _receiver(rng: Random, subject: Phrase) -> Phrase:
    """Draws the indirect object, a person."""
    if rng.random() < 0.4:
        return phrases.pronoun(rng, not_person=subject.person)
    return phrases.noun_phrase(rng, "person")


def _english(clause: Clause) -> Clause:
    """Returns the clause for English, where kein becomes a negated verb."""
    kein = clause.object is not None and clause.object.german["nom"].startswith("kein")
    return replace(clause, negated=True) if kein else clause


def _statement(rng: Random) -> Pair:
    """Draws a main clause; subject, time or place stands first."""
    clause = _clause(rng)
    fronts = ["subject", *(["time"] if clause.time else []), *(["place"] if clause.place else [])]
    return german_main(clause, rng.choice(fronts)) + ".", english_main(_english(clause)) + "."


def _question(rng: Random) -> Pair:
    """Draws a yes-no question."""
    clause = _clause(rng)
    return german_main(clause, "") + "?", english_question(_english(clause)) + "?"


def _open_question(rng: Random) -> Pair:
    """Draws a question with a question word."""
    german, english = rng.choice(_QUESTION_WORDS)
    clause = replace(_clause(rng, short=True), time=None, frequency=None)
    return f"{german} {german_main(clause, '')}?", f"{english} {english_question(_english(clause))}?"


def _subordinate(rng: Random) -> Pair:
    """Draws a main clause with a subordinate clause before or after it."""
    german, english = rng.choice(_SUBORDINATE)
    main, side = _clause(rng, short=True), _state_or_clause(rng)
    if rng.random() < 0.5:
        return f"{german_main(main)}, {german} {side[0]}.", f"{english_main(_english(main))} {english} {side[1]}."
    first = f"{german[0].upper()}{german[1:]} {side[0]}, {german_main(main, '')}."
    return first, f"{english[0].upper()}{english[1:]} {side[1]}, {english_main(_english(main))}."


def _state_or_clause(rng: Random) -> Pair:
    """Draws a verb-last clause, or a predicate about a person (weil sie müde ist)."""
    if rng.random() < 0.3:
        who, word = phrases.subject(rng), rng.choice(adjectives_of("feel"))
        german = words(who.german["nom"], word.german, auxiliary("sein", who.person))
        return german, words(who.english, be(who.person), word.english)
    clause = _clause(rng, short=True)
    return german_last(clause), english_main(_english(clause))


def _opinion(rng: Random) -> Pair:
    """Draws a clause that depends on one like ich glaube, dass."""
    german, english = rng.choice(_OPINIONS)
    clause = _clause(rng, short=rng.random() < 0.5)
    return f"{german} {german_last(clause)}.", f"{english} {english_main(_english(clause))}."


def _relative_subject(rng: Random) -> Pair:
    """Draws a clause whose subject has a relative clause (Das Kind, das den Hund füttert, lacht)."""
    who = phrases.definite(rng, "person")
    side, main = _clause(rng, subject=who, short=True), _clause(rng, subject=who, short=True)
    finite = german_main(main).removeprefix(who.german["nom"]).strip()
    german = f"{who.german['nom']}, {RELATIVE[who.gender][0]} {german_last(side, subject=False)}, {finite}."
    return german, f"{who.english} who {english_predicate(_english(side))} {english_predicate(_english(main))}."


def _relative_object(rng: Random) -> Pair:
    """Draws a clause whose object has a relative clause (Anna sucht den Schlüssel, den Paul verloren hat)."""
    outer = rng.choice([verb for verb in verbs() if verb.objects in ("small", "read", "buy") and not verb.ditransitive])
    thing = phrases.definite(rng, outer.objects)
    main = replace(_clause(rng, short=True, verb=outer), object=thing, place=None, price=None)
    fitting = [verb for verb in verbs() if verb.objects == outer.objects and verb != outer and not verb.preposition]
    inner = rng.choice(fitting or [outer])
    side = replace(_clause(rng, short=True, verb=inner), object=None, negated=False, price=None)
    german = f"{german_main(main)}, {RELATIVE[thing.gender][1]} {german_last(side)}."
    return german, f"{english_main(main)} that {english_main(side, gap=True)}."


def _attempt(rng: Random) -> Pair:
    """Draws a person who tries or forgets to do something (infinitive with zu)."""
    german, english = rng.choice(_ATTEMPTS)
    who = phrases.name(rng) if rng.random() < 0.5 else phrases.definite(rng, "person")
    clause = replace(_clause(rng, subject=who, short=True), tense="present", time=None, negated=False)
    clause = replace(clause, frequency=None, gladly=False)
    if who.person != "3s" or (clause.object and clause.object.german["nom"].startswith("kein")):
        return _attempt(rng)
    return (
        f"{german.format(who.german['nom'])} {german_infinitive(clause)}.",
        f"{english.format(who.english)} {english_infinitive(clause)}.",
    )


def _purpose(rng: Random) -> Pair:
    """Draws a clause with a purpose (Wir fahren nach Wien, um unsere Tante zu besuchen)."""
    clause = _clause(rng, short=True)
    aim = replace(
        _clause(rng, subject=clause.subject, short=True), negated=False, frequency=None, gladly=False, time=None
    )
    aim = replace(aim, tense="present")
    if aim.object and aim.object.german["nom"].startswith("kein"):
        return _purpose(rng)
    german = f"{german_main(clause)}, um {german_infinitive(aim)}."
    return german, f"{english_main(_english(clause))} {english_infinitive(aim)}."


def _passive(rng: Random) -> Pair:
    """Draws a clause in the passive of the past."""
    verb = rng.choice([v for v in verbs() if v.objects not in ("", "city") and v.case == "acc" and not v.ditransitive
                       and not v.preposition and not v.particle])  # fmt: skip
    thing, who = phrases.definite(rng, verb.objects), phrases.name(rng)
    time = phrases.time(rng, "past") if rng.random() < 0.6 else ("", "")
    by = rng.random() < 0.6
    finite = "wurde" if thing.person == "3s" else "wurden"
    agent = (f"von {who.german['dat']}", f"by {who.english}") if by else ("", "")
    german = words(thing.german["nom"], finite, time[0], agent[0], verb.participle)
    return german + ".", words(thing.english, be(thing.person, True), verb.english_participle, agent[1], time[1]) + "."


def _state(rng: Random) -> Pair:
    """Draws a predicate adjective, which has no ending in German."""
    person = rng.random() < 0.5
    who = phrases.subject(rng) if person else phrases.noun_phrase(rng, rng.choice(("buy", "open", "wear")))
    word: Adjective = rng.choice(adjectives_of("feel" if person else "thing"))
    degree = rng.choice((("", ""), ("sehr", "very"), ("nicht", "not"), ("zu", "too"), ("leider", "unfortunately")))
    past = rng.random() < 0.4
    finite = {"1s": "war", "2s": "warst", "3s": "war"}.get(who.person, "waren") if past else ""
    german = words(who.german["nom"], finite or auxiliary("sein", who.person), degree[0], word.german)
    return german + ".", words(who.english, be(who.person, past), degree[1], word.english) + "."


def _coordination(rng: Random) -> Pair:
    """Draws two main clauses joined by und or aber."""
    german, english = rng.choice(_COORDINATE)
    one, two = _clause(rng, short=True), _clause(rng, short=True)
    return (
        f"{german_main(one)}, {german} {german_main(two)}.",
        f"{english_main(_english(one))}, {english} {english_main(_english(two))}.",
    )


_FRAMES = (
    (_statement, 6), (_question, 2), (_open_question, 1), (_subordinate, 4), (_opinion, 2), (_relative_subject, 1),
    (_relative_object, 2), (_attempt, 1), (_purpose, 1), (_passive, 1), (_state, 1), (_coordination, 1),
)  # fmt: skip
