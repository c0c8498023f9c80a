"""Whole texts through a model: sentence by sentence, together again, with counts and errors that tell the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compressor.errors import InputError, TooLongError
from compressor.runtime.documents import Document, DocumentStream, prepare
from compressor.runtime.generator import Generator
from compressor.runtime.results import Result
from compressor.runtime.sources import Source, Truncation
from compressor.text.letter_case import LetterCase

DOG, DOCTOR = "Der Hund sieht den Baum.", "Der Arzt ruft den Mann."
PAGE = f"# Hund\n\n  - {DOG} {DOCTOR}\r\n  - {DOCTOR}\n\n```\nDer Hund\n```\n42 https://example.org\n"
SIGNS = "# *Hund*\n\nDer **Hund** sieht den [Baum](a.html) und `x`. Der *Hund* [ruft](b). ![Der Mann](c) 42\n"
LIMIT = 12


def encode(texts: Sequence[str], truncation: Truncation) -> list[Source]:
    """A token a word, which is the length of the word."""
    sources = [[len(word) for word in text.split()] for text in texts]
    long = [(index, len(ids)) for index, ids in enumerate(sources) if len(ids) > LIMIT]
    if long and truncation == "error":
        raise TooLongError(long, LIMIT)
    return [Source(ids[:LIMIT], len(ids) > LIMIT) for ids in sources]


def echo(document: Document) -> Result:
    """The result of a model that repeats its source."""
    results = [
        Result(sentence.flat, source.token_ids, len(source.token_ids), 1, source.truncated, "eos")
        for sentence, source in zip(document.sentences, document.sources, strict=True)
    ]
    return document.result(results)


@pytest.fixture(scope="module")
def generator(tiny_bundle: Path) -> Generator:
    return Generator.load(tiny_bundle, intra_threads=1)


SHORT_WRAPPED = "Der Hund. Der Arzt sieht. Der Hund sieht den\nBaum. Der Mann.\n"
WRAPPED = "> Der Hund sieht den alten Baum, und der Arzt ruft\n> den Mann. Der Hund sieht\n> den Baum.\n"


@pytest.mark.parametrize("text", [PAGE, WRAPPED, DOG, " \u2028Ja.\n\n\tNein. ", "42", "犬がいる。猫もいる。"])
def test_a_model_that_repeats_gives_the_text_back(text: str) -> None:
    (document,) = prepare([text], encode=encode, target_language="ja", truncation="split")
    assert echo(document).text == text


def test_sentences_without_spaces_get_them_in_a_language_that_has_them() -> None:
    (document,) = prepare(["犬がいる。猫もいる。"], encode=encode, source_language="ja", target_language="en")
    assert echo(document).text == "犬がいる。 猫もいる。"


@pytest.mark.parametrize("text", ["", " \n"])
def test_a_blank_text_has_no_sentences(text: str) -> None:
    for split in ("sentences", "none"):
        (document,) = prepare([text], encode=encode, split=split)  # type: ignore[arg-type]
        assert document.sources == () and document.result([]) == Result(text, [], 0, 0, False, "eos")


def test_a_text_without_a_word_passes_though_it_is_read_whole() -> None:
    for text in ("12345", "https://a.b/c?d=e\n", " 😀 "):
        (document,) = prepare([text], encode=encode, split="none")
        assert document.sources == () and document.result([]).text == text


def test_a_text_that_is_read_whole_has_spaces_for_line_breaks() -> None:
    (document,) = prepare(["Ein Satz\r\n  geht  weiter.\n\n1. Noch\u2028einer.\n"], encode=encode, split="none")
    assert [sentence.flat for sentence in document.sentences] == ["Ein Satz geht  weiter. 1. Noch einer."]
    (document,) = prepare(["  Ein  Satz. "], encode=encode, split="none")
    assert document.sentences[0].flat == "  Ein  Satz. "  # as it is


def test_a_target_language_holds_for_every_sentence() -> None:
    (document,) = prepare([">>deu<< Hello there. Good."], encode=encode, source_language="en")
    assert [source.token_ids for source in document.sources] == [[7, 5, 6], [7, 5]]
    assert echo(document).text == "Hello there. Good."


LONG = "Der Hund sieht den Baum, der Arzt ruft den Mann, und der Mann geht."


def test_sentences_over_the_limit_are_refused_with_their_text_and_longest_length() -> None:
    texts = ["Ja.", f"Ja. {LONG} {LONG[:-1]} weg.", LONG]
    with pytest.raises(TooLongError) as error:
        prepare(texts, encode=encode, source_language="de")
    assert str(error.value) == (
        "text 2 has a sentence of 15 tokens, text 3 has 14 tokens, the limit is 12: shorten them, or have them cut "
        "(truncation='longest_first' or 'split')"
    )


def test_sentences_over_the_limit_are_cut_or_read_in_parts_of_half_of_it() -> None:
    (cut,) = prepare([f"Ja. {LONG}"], encode=encode, source_language="de", truncation="longest_first")
    assert (cut.dropped_tokens, echo(cut).truncated, echo(cut).dropped_tokens) == ((0, 2), True, 2)
    (parts,) = prepare([f"Ja. {LONG}"], encode=encode, source_language="de", truncation="split")
    assert [one.flat for one in parts.sentences] == [
        "Ja.",
        "Der Hund sieht den Baum,",
        "der Arzt ruft den Mann,",
        "und der Mann geht.",
    ]
    result = echo(parts)
    assert (result.text, result.truncated, result.dropped_tokens) == (f"Ja. {LONG}", False, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "words"}, "split is 'words': give 'sentences' or 'none'"),
        ({"truncation": "only_first"}, "truncation is 'only_first': give 'error', 'longest_first' or 'split'"),
        ({"texts": ["a", "b\ud800"]}, "text 2: no valid Unicode at character 2"),
        ({"texts": ["a", None]}, "text 2 is not a string"),
    ],
)
def test_wrong_texts_and_options_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(**{"texts": ["a"], "encode": encode, **arguments})


@pytest.mark.parametrize(
    ("reasons", "worst"),
    [(["eos", "eos"], "eos"), (["length", "eos"], "length"), (["repetition", "length"], "repetition")],
)
def test_a_text_ends_as_the_worst_of_its_sentences(reasons: list[Any], worst: str) -> None:
    (document,) = prepare(["Ja doch. Nein."], encode=encode)
    results = [Result("x", [1, 2], 3, 2, False, reason, score=-1.0) for reason in reasons]
    result = document.result(results)
    assert (result.finish_reason, result.input_tokens, result.output_tokens) == (worst, 6, 4)
    assert (result.token_ids, result.score, result.sentences) == ([1, 2, 1, 2], None, tuple(results))


@pytest.mark.parametrize("num_beams", [1, 3])
def test_each_sentence_of_a_page_is_translated_as_it_is_alone(generator: Generator, num_beams: int) -> None:
    title, dog, doctor = (one.text for one in generator.generate(["Hund", DOG, DOCTOR], num_beams=num_beams))
    page, alone = generator.generate([PAGE, DOG], num_beams=num_beams)
    assert page.text == (
        f"# {title}\n\n  - {dog} {doctor}\r\n  - {doctor}\n\n```\nDer Hund\n```\n42 https://example.org\n"
    )
    assert [one.text for one in page.sentences] == [title, dog, doctor, doctor]
    assert page.input_tokens == sum(one.input_tokens for one in page.sentences)
    assert alone == generator.generate([DOG], split="none", num_beams=num_beams)[0]


def test_white_space_around_one_sentence_stays(generator: Generator) -> None:
    plain, padded = generator.generate([DOG, f"\t{DOG}\n"], num_beams=3, num_return_sequences=2)
    assert padded.text == f"\t{plain.text}\n" and padded.alternatives[0].text == f"\t{plain.alternatives[0].text}\n"
    assert replace(padded, text="", alternatives=()) == replace(plain, text="", alternatives=())


def test_what_has_no_word_passes_without_the_model(generator: Generator) -> None:
    for text in ("18,10 €", "%1$s", "🎉", "</s>", "a@example.org"):
        assert generator.generate([text]) == [Result(text, [], 0, 0, False, "eos")]


def test_options_of_a_text_hold_for_its_sentences(generator: Generator) -> None:
    short, long = generator.generate([f"{DOG} {DOCTOR}", DOG], max_new_tokens=[2, 9])
    assert [one.output_tokens for one in short.sentences] == [2, 2] and short.finish_reason == "length"
    assert long == generator.generate([DOG], max_new_tokens=9)[0]


@pytest.mark.parametrize("text", [PAGE, SHORT_WRAPPED, SIGNS, "42 ", f"{DOG} {DOCTOR}", f"{DOG} 42"])
def test_a_stream_joins_to_the_text(generator: Generator, text: str) -> None:
    pieces = list(generator.stream(text))
    assert text != SHORT_WRAPPED or any(sentence.breaks for sentence in generator.prepare([text])[0].sentences)
    assert "".join(pieces) == generator.generate([text])[0].text
    assert all(pieces)


def test_an_empty_output_of_a_streamed_sentence_loses_no_layout() -> None:
    (document,) = prepare(["- Ja doch. Nein.\n"], encode=encode)
    stream = DocumentStream(document)
    pieces = [stream.opening(), stream.end(0), stream.piece(1, "no"), stream.piece(1, "!"), stream.end(1)]
    assert pieces == ["", "- ", " no", "!", "\n"]


def test_phrases_are_read_before_the_first_sentence_with_them() -> None:
    (document,) = prepare([SIGNS], encode=encode, source_language="de")
    assert [one.flat for one in document.sentences] == [
        "Hund",
        "Der Hund sieht den Baum und `X1`.",
        "Der Hund ruft.",
        "Der Mann",
    ]
    assert document.phrases == (None, "Hund", "Baum", None, "ruft", None, None)
    outputs = ["Dog", "dog", "tree", "The dog sees `X1` and the tree.", "calls", "It calls the dog.", "The man"]
    results = [Result(output, [1, 2], 1, 2, False, "eos") for output in outputs]
    result = document.result(results)
    assert result.text == (
        "# *Dog*\n\nThe **dog** sees `x` and the [tree](a.html). It [calls](b) the *dog*. ![The man](c) 42\n"
    )
    assert (result.input_tokens, len(result.sentences)) == (4, 4)  # of sentences alone
    stream, pieces = DocumentStream(document), []
    for index, output in enumerate(outputs):
        pieces += [stream.piece(index, output[:3]), stream.piece(index, output[3:]), stream.end(index)]
    assert "".join(pieces) == result.text


def test_a_phrase_over_the_limit_is_left_out() -> None:
    def short(texts: Sequence[str], truncation: Truncation) -> list[Source]:
        return [Source([1], text == "Hund") for text in texts]

    (document,) = prepare(["Der **Hund** sieht *ihn*."], encode=short)
    assert document.phrases == ("ihn", None)


def test_a_text_that_is_read_whole_has_its_signs() -> None:
    (document,) = prepare(["Der **Hund** bellt."], encode=encode, split="none")
    assert document.sentences[0].flat == "Der **Hund** bellt." and document.phrases == (None,)


@pytest.mark.parametrize(
    ("text", "outputs", "anchors"),
    [
        (f"- {DOG}", ["A dog."], [(2, 2), (26, 8)]),
        (f"{DOG}\n\n{DOG} {DOCTOR} ", ["A", "", "BCD"], [(0, 0), (24, 1), (26, 3), (50, 3), (51, 4), (74, 7)]),
        ("42", [], []),
    ],
)
def test_anchors_are_the_ends_of_sentences(text: str, outputs: list[str], anchors: list[tuple[int, int]]) -> None:
    (document,) = prepare([text], encode=encode, source_language="de")
    result = document.result([Result(output, [], 1, 1, False, "eos") for output in outputs])
    assert document.anchors(text, result) == anchors


def test_a_sentence_in_capitals_is_read_as_usual_and_its_output_written_in_capitals() -> None:
    letter_case = LetterCase(["upper"], lambda text: float(text in ("Hund", "bellt")) * 3)
    text = "Der Hund bellt.\nDER HUND BELLT."
    (document,) = prepare([text], encode=encode, letter_case=letter_case, source_language="de")
    assert [source.token_ids for source in document.sources] == [[3, 4, 6], [3, 4, 6]]
    assert [source.token_ids for source in document.sources] == [[3, 4, 6], [3, 4, 6]]
    assert document.cases == (None, "upper")
    results = [Result("The dog barks.", [1], 3, 1, False, "eos")] * 2
    assert document.result(results).text == "The dog barks.\nTHE DOG BARKS."
    stream = DocumentStream(document)
    pieces = [stream.opening()]
    for index in range(2):
        pieces += [stream.piece(index, delta) for delta in ("The do", "g barks.")] + [stream.end(index)]
    assert "".join(pieces) == document.result(results).text


def test_characters_that_nobody_sees_are_not_read() -> None:
    read: list[str] = []

    def noting(texts: Sequence[str], truncation: Truncation) -> list[Source]:
        read.extend(texts)
        return encode(texts, truncation)

    texts = ["Das Dampf\u00adschiff\u2060 \x00f\u00e4hrt\u200e.", "Nim\u200cnim \U0001f468\u200d"]
    prepare(texts, encode=noting, split="none")
    assert read == ["Das Dampfschiff f\u00e4hrt.", "Nim\u200cnim \U0001f468\u200d"]
