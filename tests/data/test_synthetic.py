"""The embedded corpus: determinism, disjoint splits, and German checked against a table written by hand."""

from __future__ import annotations

import re
import subprocess
import sys
from random import Random

import pytest

from compressor.data.examples import source_key
from compressor.data.synthetic import numbers
from compressor.data.synthetic.clauses import (
    Clause,
    english_infinitive,
    english_main,
    english_question,
    german_infinitive,
    german_last,
    german_main,
)
from compressor.data.synthetic.corpus import Split, generate, split_of
from compressor.data.synthetic.lexicon import (
    Adjective,
    Noun,
    Verb,
    nouns,
    verbs,
)
from compressor.data.synthetic.morphology import (
    CASES,
    adjective,
    auxiliary,
    determiner,
    noun,
    present,
    progressive,
    third,
)
from compressor.data.synthetic.phrases import Phrase

TASKS = ("translation", "summarization")
SPLITS: tuple[Split, ...] = ("train", "dev", "test")


def word(german: str) -> Noun:
    return next(item for item in nouns() if item.singular == german)


def verb(infinitive: str) -> Verb:
    return next(item for item in verbs() if item.prefix + item.base == infinitive)


HE = Phrase(dict(zip(CASES, ("er", "ihn", "ihm"), strict=True)), "he", "him", "3s", pronoun=True)
THEY = Phrase(dict(zip(CASES, ("sie", "sie", "ihnen"), strict=True)), "they", "them", "3p", pronoun=True)
KEY = Phrase(
    dict(zip(CASES, ("der Schlüssel", "den Schlüssel", "dem Schlüssel"), strict=True)), "the key", "the key", "3s"
)
DOCTOR = Phrase(dict(zip(CASES, ("der Arzt", "den Arzt", "dem Arzt"), strict=True)), "the doctor", "the doctor", "3s")


@pytest.mark.parametrize("task", TASKS)
def test_splits_never_share_a_source(task: str) -> None:
    keys = [{source_key(e.source) for seed in (0, 1) for e in generate(task, split, 150, seed)} for split in SPLITS]
    assert not keys[0] & keys[1] | keys[0] & keys[2] | keys[1] & keys[2]


@pytest.mark.parametrize("task", TASKS)
def test_generation_is_deterministic_across_processes(task: str) -> None:
    code = f"from compressor.data.synthetic.corpus import generate; print(generate({task!r}, 'dev', 20, 3))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert other == str(generate(task, "dev", 20, 3))
    assert generate(task, "dev", 20, 3) != generate(task, "dev", 20, 4)
    assert generate(task, "dev", 20, 3)[:10] == generate(task, "dev", 10, 3)


def test_split_ignores_case_and_punctuation() -> None:
    for example in generate("translation", "dev", 20):
        assert split_of(example.source.upper().replace("ß", "SS").rstrip(".?")) == "dev"


def test_sentences_have_valid_length_and_punctuation() -> None:
    pairs = generate("translation", "train", 1500)
    assert len({e.source for e in pairs}) == 1500
    for example in pairs:
        for side in example:
            assert side is not None and 4 <= len(side.split()) <= 16
            assert re.fullmatch(r"[0-9A-ZÄÖÜ][^.?]*(?:\d\.\d|\d\.|[^.?])*[.?]", side), side
            assert "  " not in side
    assert 600 < len({w.strip(".,?").lower() for e in pairs for w in e.source.split()}) < 3000


def test_hard_german_constructions_occur() -> None:
    sources = [e.source for e in generate("translation", "train", 1500)]
    patterns = [
        r", (weil|obwohl|bevor) .*t\.$",
        r" (auf|zu|ein|aus|an)\.$",
        r"\bkein",
        r"\bnicht\b",
        r"\bhalb\b",
        r"\?$",
    ]
    patterns += [r"zu(?:rückzu)?\w+en\.$", r"\bum\b", r"und(?:zwanzig|dreißig)", r"\d", r"tür", r"wurden? "]
    for pattern in patterns:
        assert sum(bool(re.search(pattern, source)) for source in sources) >= 8, pattern


@pytest.mark.parametrize(
    ("det", "gender", "inflections"),
    [
        ("der", "m", ("der alte Tisch", "den alten Tisch", "dem alten Tisch")),
        ("ein", "m", ("ein alter Tisch", "einen alten Tisch", "einem alten Tisch")),
        ("kein", "n", ("kein altes Buch", "kein altes Buch", "keinem alten Buch")),
        ("dies", "f", ("diese alte Tür", "diese alte Tür", "dieser alten Tür")),
        ("unser", "p", ("unsere alten Tische", "unsere alten Tische", "unseren alten Tischen")),
        ("der", "p", ("die alten Autos", "die alten Autos", "den alten Autos")),
        ("der", "weak", ("der alte Junge", "den alten Jungen", "dem alten Jungen")),
        ("drei", "p", ("drei alte Bücher", "drei alte Bücher", "drei alten Büchern")),
    ],
)
def test_german_noun_phrases_match_a_table(det: str, gender: str, inflections: tuple[str, ...]) -> None:
    old = Adjective("alt", "old", frozenset())
    singular = {"Bücher": "Buch", "Tische": "Tisch", "Autos": "Auto"}.get(
        inflections[0].split()[-1], inflections[0].split()[-1]
    )
    kind = "m" if gender == "weak" else gender
    actual = []
    for case in CASES:
        article = det if det == "drei" else determiner(det, kind, case)
        ending = adjective(old, "" if det == "drei" else det, kind, case)
        actual.append(f"{article} {ending} {noun(word(singular), gender == 'p', case)}")
    assert tuple(actual) == inflections


@pytest.mark.parametrize(
    ("infinitive", "inflections"),
    [
        ("lesen", ("lese", "liest", "liest", "lesen", "lesen")),
        ("arbeiten", ("arbeite", "arbeitest", "arbeitet", "arbeiten", "arbeiten")),
        ("tanzen", ("tanze", "tanzt", "tanzt", "tanzen", "tanzen")),
        ("füttern", ("füttere", "fütterst", "füttert", "füttern", "füttern")),
        ("einladen", ("lade", "lädst", "lädt", "laden", "laden")),
    ],
)
def test_german_present_tense_matches_a_table(infinitive: str, inflections: tuple[str, ...]) -> None:
    assert tuple(present(verb(infinitive), person) for person in ("1s", "2s", "3s", "1p", "3p")) == inflections


@pytest.mark.parametrize(
    ("name", "inflections"),
    [
        ("müssen", ("muss", "musst", "muss", "müssen", "müssen")),
        ("wollen", ("will", "willst", "will", "wollen", "wollen")),
        ("möchten", ("möchte", "möchtest", "möchte", "möchten", "möchten")),
        ("sein", ("bin", "bist", "ist", "sind", "sind")),
    ],
)
def test_german_auxiliaries_match_a_table(name: str, inflections: tuple[str, ...]) -> None:
    assert tuple(auxiliary(name, person) for person in ("1s", "2s", "3s", "1p", "3p")) == inflections


def test_english_verb_forms() -> None:
    assert [third(v) for v in ("read", "go", "carry", "pay", "wash")] == ["reads", "goes", "carries", "pays", "washes"]
    assert [progressive(v) for v in ("read", "write", "swim", "forget")] == [
        "reading",
        "writing",
        "swimming",
        "forgetting",
    ]
    assert (verb("weinen").past, verb("einladen").past, verb("bezahlen").past) == ("cried", "invited", "paid")


def test_compounds_take_gender_and_plural_of_their_head() -> None:
    door, shelf = word("Küchentür"), word("Bücherregal")
    assert (door.gender, door.plural, door.english_plural) == ("f", "Küchentüren", "kitchen doors")
    assert (shelf.gender, shelf.plural, shelf.english_plural) == ("n", "Bücherregale", "bookshelves")


@pytest.mark.parametrize(
    ("clause", "main", "last", "english"),
    [
        (
            Clause(HE, verb("abholen"), "present", object=DOCTOR),
            "er holt den Arzt ab",
            "er den Arzt abholt",
            "he picks up the doctor",
        ),
        (
            Clause(HE, verb("abholen"), "perfect", object=DOCTOR),
            "er hat den Arzt abgeholt",
            "er den Arzt abgeholt hat",
            "he picked up the doctor",
        ),
        (Clause(HE, verb("abholen"), "present", object=THEY), "er holt sie ab", "er sie abholt", "he picks them up"),
        (
            Clause(HE, verb("helfen"), "müssen", object=DOCTOR),
            "er muss dem Arzt helfen",
            "er dem Arzt helfen muss",
            "he must help the doctor",
        ),
        (
            Clause(HE, verb("helfen"), "müssen", object=DOCTOR, negated=True),
            "er muss dem Arzt nicht helfen",
            "er dem Arzt nicht helfen muss",
            "he does not have to help the doctor",
        ),
        (
            Clause(THEY, verb("suchen"), "present", object=KEY, gladly=True, negated=True),
            "sie suchen nicht gern den Schlüssel",
            "sie nicht gern den Schlüssel suchen",
            "they do not like to look for the key",
        ),
        (
            Clause(HE, verb("ankommen"), "perfect", time=("gestern", "yesterday"), negated=True),
            "er ist gestern nicht angekommen",
            "er gestern nicht angekommen ist",
            "he did not arrive yesterday",
        ),
        (
            Clause(HE, verb("fahren"), "progressive", destination=("nach Köln", "to Cologne")),
            "er fährt gerade nach Köln",
            "er gerade nach Köln fährt",
            "he is going to Cologne",
        ),
        (
            Clause(HE, verb("denken"), "future", object=DOCTOR),
            "er wird an den Arzt denken",
            "er an den Arzt denken wird",
            "he will think of the doctor",
        ),
        (
            Clause(THEY, verb("zeigen"), "können", object=KEY, indirect=DOCTOR, negated=True),
            "sie können dem Arzt den Schlüssel nicht zeigen",
            "sie dem Arzt den Schlüssel nicht zeigen können",
            "they cannot show the doctor the key",
        ),
    ],
)
def test_clauses_match_a_table(clause: Clause, main: str, last: str, english: str) -> None:
    assert (german_main(clause), german_last(clause), english_main(clause)) == (main, last, english)


def test_inversion_question_and_infinitive() -> None:
    clause = Clause(HE, verb("anrufen"), "perfect", object=DOCTOR, time=("gestern", "yesterday"))
    assert german_main(clause, "time") == "gestern hat er den Arzt angerufen"
    assert german_main(clause, "") == "hat er gestern den Arzt angerufen"
    assert english_question(clause) == "did he call the doctor yesterday"
    plain = Clause(HE, verb("anrufen"), "present", object=DOCTOR)
    assert german_infinitive(plain) == "den Arzt anzurufen"
    assert english_infinitive(plain) == "to call the doctor"


def test_numbers_in_words() -> None:
    assert [numbers.german(n) for n in (1, 16, 21, 30, 77)] == [
        "eins",
        "sechzehn",
        "einundzwanzig",
        "dreißig",
        "siebenundsiebzig",
    ]
    assert [numbers.english(n) for n in (1, 16, 21, 30, 77)] == [
        "one",
        "sixteen",
        "twenty-one",
        "thirty",
        "seventy-seven",
    ]


def test_half_counts_towards_the_next_hour() -> None:
    said = dict(numbers.clock(Random(i)) for i in range(3000))
    assert said["um halb acht"] == "at half past seven"
    assert said["um halb eins"] == "at half past twelve"
    assert said["um ein Uhr"] == "at one o'clock"
    assert said["um 17.45 Uhr"] == "at 5:45 pm"
    assert said["um 12.05 Uhr"] == "at 12:05 pm"


def test_headline_facts_are_not_all_in_the_first_sentence() -> None:
    examples = generate("summarization", "train", 600)
    first_is_enough = 0
    for example in examples:
        sentences = re.split(r"(?<=[.?\"]) (?=[A-Z0-9\"])", example.source)
        assert 3 <= len(sentences) <= 7  # a quotation may split in two
        assert example.target is not None and 3 <= len(example.target.split()) <= 12
        content = set(re.findall(r"[a-z]{4,}|\d+", example.target.lower()))
        first_is_enough += content <= set(re.findall(r"[a-z]{4,}|\d+", sentences[0].lower()))
    assert first_is_enough < 0.05 * len(examples)


def test_headline_winner_follows_from_the_score() -> None:
    count = 0
    for example in generate("summarization", "train", 600):
        headline = re.fullmatch(r"(\w+) beat (\w+) (\d)-(\d) in .*", example.target or "")
        if headline:
            count += 1
            goals = dict(re.findall(r"(\w+) scored (\w+) goal", example.source))
            counts = {team: ["no", "one", "two", "three", "four", "five"].index(said) for team, said in goals.items()}
            assert (counts[headline[1]], counts[headline[2]]) == (int(headline[3]), int(headline[4]))
            assert int(headline[3]) > int(headline[4])
    assert count > 20
