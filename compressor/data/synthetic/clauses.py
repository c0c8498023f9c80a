"""Builds a clause in German (verb second, verb last, infinitive) and in English (statement, question)."""

from __future__ import annotations

from dataclasses import dataclass

from compressor.data.synthetic.lexicon import Verb
from compressor.data.synthetic.morphology import (
    auxiliary,
    be,
    present,
    progressive,
    third,
)
from compressor.data.synthetic.numbers import Pair
from compressor.data.synthetic.phrases import Phrase

MODALS = ("können", "müssen", "wollen", "sollen", "dürfen", "möchten")


@dataclass(frozen=True)
class Clause:
    """The parts of a clause, from which it is built in both languages.

    ``tense`` is present, progressive (gerade), planned (German present, English future), perfect, future, or a modal.
    """

    subject: Phrase
    verb: Verb
    tense: str
    object: Phrase | None = None
    indirect: Phrase | None = None
    destination: Pair | None = None
    negated: bool = False
    frequency: Pair | None = None
    gladly: bool = False
    time: Pair | None = None
    place: Pair | None = None
    price: Pair | None = None


def words(*parts: str) -> str:
    """Joins the parts that are not empty with spaces."""
    return " ".join(part for part in parts if part)


def german_main(clause: Clause, front: str = "subject") -> str:
    """German main clause: the finite verb follows ``front`` (subject, time, place, or "" for a yes-no question)."""
    finite, tail = _german_verbs(clause)
    first = {"subject": clause.subject.german["nom"], "": ""}.get(front)
    if first is None:
        first = (clause.time if front == "time" else clause.place or ("", ""))[0]  # type: ignore[index]
    inverted = "" if front == "subject" else clause.subject.german["nom"]
    return words(first, finite, inverted, _middle(clause, front), tail)


def german_last(clause: Clause, *, subject: bool = True) -> str:
    """German subordinate clause, with the verb last; ``subject`` False omits the subject (a relative pronoun is it)."""
    finite, tail = _german_verbs(clause)
    if clause.tense in ("present", "progressive", "planned"):  # a separable prefix rejoins its verb
        tail, finite = "", tail + finite
    return words(clause.subject.german["nom"] if subject else "", _middle(clause, ""), tail, finite)


def german_infinitive(clause: Clause) -> str:
    """German infinitive with zu, which goes between the prefix and stem of a separable verb."""
    verb = clause.verb
    return words(_middle(clause, ""), f"{verb.prefix}zu{verb.base}" if verb.prefix else f"zu {verb.base}")


def english_main(clause: Clause, *, gap: bool = False) -> str:
    """English statement; ``gap`` omits the object, as in a relative clause."""
    operator, rest = _english_verbs(clause, support=clause.negated)
    return words(clause.subject.english, _negate(operator, clause.negated), _english_rest(clause, rest, gap))


def english_predicate(clause: Clause) -> str:
    """English statement without its subject."""
    operator, rest = _english_verbs(clause, support=clause.negated)
    return words(_negate(operator, clause.negated), _english_rest(clause, rest))


def english_question(clause: Clause) -> str:
    """English question without a question word: auxiliary, subject, verb."""
    operator, rest = _english_verbs(clause, support=True)
    negation = "not" if clause.negated else ""
    return words(operator, clause.subject.english, negation, _english_rest(clause, rest))


def english_infinitive(clause: Clause) -> str:
    """English infinitive with to."""
    return words("to", _english_rest(clause, clause.verb.english))


def _german_verbs(clause: Clause) -> tuple[str, str]:
    """The finite verb, and the participle, infinitive or prefix at the end of the clause."""
    verb, person = clause.verb, clause.subject.person
    if clause.tense == "perfect":
        return auxiliary(verb.auxiliary, person), verb.participle
    if clause.tense in MODALS:
        return auxiliary(clause.tense, person), verb.prefix + verb.base
    if clause.tense == "future":
        return auxiliary("werden", person), verb.prefix + verb.base
    return present(verb, person), verb.prefix


def _middle(clause: Clause, front: str) -> str:
    """Everything between finite verb and clause end, in German order: pronouns, time, dative, accusative, ... place."""
    verb, thing, person = clause.verb, clause.object, clause.indirect
    direct = thing.german[verb.case] if thing and not verb.preposition else ""
    indirect = person.german["dat"] if person else ""
    return words(
        direct if thing and thing.pronoun else "",
        indirect if person and person.pronoun else "",
        clause.time[0] if clause.time and front != "time" else "",
        clause.frequency[0] if clause.frequency else "",
        "gerade" if clause.tense == "progressive" else "",
        "nicht" if clause.gladly and clause.negated else "",
        "gern" if clause.gladly else "",
        indirect if person and not person.pronoun else "",
        direct if thing and not thing.pronoun else "",
        "nicht" if clause.negated and not clause.gladly else "",
        clause.price[0] if clause.price else "",
        f"{verb.preposition} {thing.german[verb.case]}" if thing and verb.preposition else "",
        clause.destination[0] if clause.destination else "",
        clause.place[0] if clause.place and front != "place" else "",
    )


def _negate(operator: str, negated: bool) -> str:
    """The auxiliary with not, if negated."""
    if not negated:
        return operator
    return "cannot" if operator == "can" else f"{operator} not"


def _english_verbs(clause: Clause, *, support: bool) -> tuple[str, str]:
    """The auxiliary (which inverts and takes not) and the rest; ``support`` asks for one, if need be do."""
    verb, person, tense = clause.verb, clause.subject.person, clause.tense
    lexical = {"wollen": f"want to {verb.english}", "müssen": f"have to {verb.english}"}
    if tense == "progressive":
        return be(person), progressive(verb.english)
    if tense == "perfect":
        return ("did", verb.english) if support else ("", verb.past)
    if tense in ("future", "planned", "können", "sollen"):
        return {"können": "can", "sollen": "should"}.get(tense, "will"), verb.english
    if tense == "möchten":
        return "would", f"like to {verb.english}"
    if tense == "dürfen":
        return be(person), f"allowed to {verb.english}"
    if tense == "müssen" and not clause.negated:
        return "must", verb.english
    base = lexical.get(tense, f"like to {verb.english}" if clause.gladly else verb.english)
    singular = person == "3s"
    if support:
        return ("does" if singular else "do"), base
    first, *rest = base.split(" ")
    return "", words(third(first) if singular else first, *rest)


def _english_rest(clause: Clause, main: str, gap: bool = False) -> str:
    """The main verb and everything after it."""
    verb = clause.verb
    thing = "" if gap or clause.object is None else clause.object.english_object
    behind = verb.movable and clause.object is not None and clause.object.pronoun
    return words(
        clause.frequency[1] if clause.frequency else "",
        main,
        clause.indirect.english_object if clause.indirect else "",
        thing if behind else verb.particle,
        verb.particle if behind else thing,
        clause.destination[1] if clause.destination else "",
        clause.price[1] if clause.price else "",
        clause.place[1] if clause.place else "",
        clause.time[1] if clause.time else "",
    )
