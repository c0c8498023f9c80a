"""Loops are cut, and repetition that belongs to a text is not."""

from __future__ import annotations

import itertools
import random
import re

import pytest

from compressor.text.guards import cut_loop, until_loop

SOURCE = [900, 901, 902, 903]


def ids(text: str) -> list[int]:
    """A token for each character, so that cases can be read."""
    return [ord(character) for character in text]


CASES = {
    "one token": ("so AAAAAAAAAAAAAAAA", "WIR LIEBEN", "so A"),
    "a phrase at the end": ("want: ab ab ab ab ab ab", "", "want: ab"),
    "a phrase in the middle": ("I xyz xyz xyz xyz xyz go.", "", "I xyz"),
    "a broken last turn": ("I xyz xyz xyz xyz xyz x", "", "I xyz"),
    "a long phrase": ("to be a man to be a man to be a man to be a", "", "to be a man "),
    "digits that the source lacks": ("18, 186666666666", "18,10 €", "18, 186"),
    "twice the source's": ("very very very very very very very ", "sehr sehr ", "very "),
}
WHOLE = {
    "nothing repeated": ("A dog runs through the snow.", ""),
    "laughter": ("ha ha ha", ""),
    "no, no, no, no": ("no, no, no, no!", ""),
    "an ellipsis": ("wait......", ""),
    "digits": ("1000000", "1000000"),
    "many digits": ("1000000000000 km", "1000000000000 km"),
    "a row of dashes": ("-" * 40, "-" * 40),
    "a longer row": ("-" * 40, "-" * 30),
    "as in the source": ("very very very very very ", "sehr sehr sehr sehr sehr "),
    "a table": ("| --- " * 6 + "|", "| --- " * 6 + "|"),
    "other n-grams than in the source": ("yes, " * 8, "ja" * 8),
}


@pytest.mark.parametrize(("output", "source", "rest"), CASES.values(), ids=CASES.keys())
def test_a_loop_is_cut_back_to_one_turn(output: str, source: str, rest: str) -> None:
    assert cut_loop(ids(output), ids(source)) == ids(rest)
    assert list(until_loop(ids(output), ids(source))) == ids(rest)


@pytest.mark.parametrize(("output", "source"), WHOLE.values(), ids=WHOLE.keys())
def test_repetition_that_belongs_to_the_text_stays(output: str, source: str) -> None:
    assert cut_loop(ids(output), ids(source)) == ids(output)
    assert list(until_loop(ids(output), ids(source))) == ids(output)


def test_empty_outputs_stay_empty() -> None:
    assert cut_loop([], []) == [] and list(until_loop([], SOURCE)) == []


def test_no_more_tokens_are_taken_once_there_is_a_loop() -> None:
    endless = itertools.chain(ids("go:"), itertools.cycle(ids("abc ")))
    assert list(until_loop(endless, SOURCE)) == ids("go:abc ")
    assert next(endless) == ord("a")  # of the fifth turn


def test_a_token_is_yielded_as_soon_as_it_cannot_be_a_loops() -> None:
    taken: list[int] = []

    def search() -> itertools.chain[int]:
        return itertools.chain.from_iterable((taken.append(token) or [token]) for token in ids("abcabd"))

    seen = [(token, len(taken)) for token in until_loop(search(), SOURCE)]
    # "ab" for the second time may begin a loop, until "d" says otherwise
    assert seen == list(zip(ids("abcabd"), [1, 2, 3, 6, 6, 6], strict=True))


def test_both_functions_agree_with_a_regular_expression() -> None:
    """The rule again, by back-references: a source without repetition, so only the least number of turns counts."""
    least = {1: 10, 2: 5} | dict.fromkeys(range(3, 9), 4) | dict.fromkeys(range(9, 17), 3)
    loops = [re.compile(rf"(.{{{period}}})\1{{{turns - 1}}}", re.DOTALL) for period, turns in least.items()]
    draws = random.Random(1)
    cut = 0
    for _ in range(1000):
        phrase = "".join(draws.choices("abcdefghij", k=draws.randint(1, 18)))
        before, after = "".join(draws.choices("klmnop", k=9)), "".join(draws.choices("qr", k=3))
        output = before + phrase * draws.randint(1, 12) + after
        matches = [match for loop in loops if (match := loop.search(output))]
        first = min(matches, key=lambda match: (match.end(), len(match[1])), default=None)
        rest = output if first is None else output[: _start(output, first) + len(first[1])]
        assert cut_loop(ids(output), SOURCE) == list(until_loop(ids(output), SOURCE)) == ids(rest)
        cut += rest != output
    assert 300 < cut < 900


def _start(output: str, loop: re.Match[str]) -> int:
    """Where the stretch of a loop begins, of which the expression may have matched the end only."""
    start, period = loop.start(), len(loop[1])
    while start and output[start - 1] == output[start - 1 + period]:
        start -= 1
    return start
