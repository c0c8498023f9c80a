"""Streamed pieces of text join to the text that generate returns."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressor.errors import InputError, TooLongError
from compressor.runtime.generator import Generator
from compressor.runtime.streaming import text_deltas


@pytest.fixture(scope="module", params=["fp32", "int8"])
def generator(tiny_bundle: Path, request: pytest.FixtureRequest) -> Generator:
    return Generator.load(tiny_bundle, precision=request.param, intra_threads=1)


@pytest.mark.parametrize("text", ["Der Hund sieht den Baum.", "Baum", "", " ", "den den den Hund sieht sieht der"])
def test_pieces_join_to_the_generated_text(generator: Generator, text: str) -> None:
    pieces = list(generator.stream(text))
    assert "".join(pieces) == generator.generate([text])[0].text
    assert all(pieces)


def test_text_is_streamed_in_several_pieces(generator: Generator) -> None:
    assert len(list(generator.stream("Der Hund sieht den Baum."))) > 1


def test_max_new_tokens_limits_a_stream(generator: Generator) -> None:
    expected = generator.generate(["Der Hund sieht den Baum."], max_new_tokens=3)[0].text
    assert "".join(generator.stream("Der Hund sieht den Baum.", max_new_tokens=3)) == expected


def test_invalid_options_are_refused_before_the_first_piece(generator: Generator) -> None:
    with pytest.raises(InputError, match="num_beams"):
        generator.stream("Hund", num_beams=10_000)
    with pytest.raises(TooLongError):
        generator.stream("Hund " * 99)


@pytest.mark.parametrize(
    "steps",
    [
        ["a", "ab", "abc"],
        ["a", "a\ufffd", "a\ufffd\ufffd", "aé", "aé!"],
        ["do", "do n", "don't", "don't go"],
        ["", "Hello", "Hello ,", "Hello, you"],
        [],
    ],
    ids=["letters", "a character of several bytes", "a space taken back", "punctuation", "nothing"],
)
def test_yielded_text_is_never_changed_later(steps: list[str]) -> None:
    pieces = list(text_deltas(range(len(steps)), lambda ids: steps[len(ids) - 1]))
    assert "".join(pieces) == (steps[-1] if steps else "")
    assert "\ufffd" not in "".join(pieces)
