"""Slices of a test set: its lines as they are, and as users type them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from compressor.data.examples import Example
from compressor.data.text_changes import CHANGES, STOPS, ends_with_stop
from compressor.data_config import Task

SEED = 1
"""Of the changes: every model is asked the same."""
LEAST = 30
"""Lines of the smallest slice that is measured: a score on fewer is luck."""
PAIRS, COPIES = "two sentences", "copied words"
SPLIT = (PAIRS, COPIES)
"""Slices that are measured a second time, as `compress translate` reads lines: sentence by sentence, literals apart."""


Comparable = Callable[[Sequence[str]], list[str]]
"""From the outputs of the unchanged lines to those that a slice compares with."""


class Slice(NamedTuple):
    """Lines of a test set, changed in one way; every one of them has a reference."""

    name: str
    examples: list[Example]
    comparable: Comparable | None = list
    """None: the slice has lines of its own, and its score compares with none."""
    split: bool = False
    """Whether each line is read sentence by sentence, as `compress translate` does, and not whole."""


class LeftOut(NamedTuple):
    """A slice that is too small to be measured."""

    name: str
    lines: int
    """Lines of the test set that it has, or that its change alters."""


class SlicedSet(NamedTuple):
    """A test set with its slices."""

    name: str
    slices: list[Slice]
    """The unchanged lines first."""
    left_out: list[LeftOut]


Made = tuple[list[Example], Comparable | None]
Maker = Callable[[Sequence[Example]], Made]


def slice_test_set(name: str, examples: Sequence[Example], task: Task = "translation", least: int = LEAST) -> SlicedSet:
    """Returns the slices of a test set that have ``least`` lines or more; the unchanged lines in any case.

    Changes of letter case and typing mistakes leave the reference alone, so that scores without regard to case
    compare with those of the unchanged text. Of a change, the lines count that it alters.
    """
    slices, left_out = [Slice("as it is", list(examples))], []
    for kind, makers in (("change", CHANGED[task]), ("part", PARTS[task])):
        for title, make in makers.items():
            made, comparable = make(examples)
            lines = sum(a != b for a, b in zip(made, examples, strict=True)) if kind == "change" else len(made)
            if lines < least:
                left_out.append(LeftOut(title, lines))
            else:
                slices.append(Slice(title, made, comparable))
    slices += [one._replace(name=f"{one.name}, split", split=True) for one in slices if one.name in SPLIT]
    return SlicedSet(name, slices, left_out)


def _changed(name: str, examples: Sequence[Example]) -> list[Example]:
    """Returns both sides changed."""
    return [CHANGES[name](one, random.Random(f"{SEED} {index}")) for index, one in enumerate(examples)]


def _with_source_of(name: str, examples: Sequence[Example]) -> Made:
    changed = _changed(name, examples)
    return [Example(new.source, old.target) for new, old in zip(changed, examples, strict=True)], list


def _without_stop(examples: Sequence[Example]) -> Made:
    """A stop is the easiest token to get right, so the outputs of the unchanged lines lose theirs, too."""
    changed = _changed("no_stop", examples)
    loses = [new != old for new, old in zip(changed, examples, strict=True)]
    return changed, lambda outputs: [
        text.rstrip(STOPS).rstrip() if lost else text for text, lost in zip(outputs, loses, strict=True)
    ]


def _with_one_typo(examples: Sequence[Example]) -> Made:
    """Returns sources with exactly one mistake: the change makes more in long lines."""
    changed = []
    for index, one in enumerate(examples):
        words = one.source.split(" ")
        rng = random.Random(f"{SEED} {index}")
        long = [place for place, word in enumerate(words) if len(word) >= 5 and word.isalpha()]
        if long:
            place = rng.choice(long)
            words[place] = CHANGES["typos"](Example(words[place]), rng).source
        changed.append(Example(" ".join(words), one.target))
    return changed, list


def _in_pairs(examples: Sequence[Example]) -> Made:
    """Returns every two neighbours that are sentences, in one line."""
    stops = [ends_with_stop(one.source) and ends_with_stop(one.target or "") for one in examples]
    sentences = [index for index, stop in enumerate(stops) if stop]
    pairs = list(zip(sentences[::2], sentences[1::2], strict=False))
    sources, targets = ([f"{side[a]} {side[b]}" for a, b in pairs] for side in zip(*examples, strict=True))
    return list(map(Example, sources, targets)), lambda outputs: [f"{outputs[a]} {outputs[b]}" for a, b in pairs]


def _copied(examples: Sequence[Example]) -> Made:
    return _changed("copied", examples), None


def _longest_tenth(examples: Sequence[Example]) -> Made:
    return sorted(examples, key=lambda one: -len(one.source))[: max(1, len(examples) // 10)], None


def _single_words(examples: Sequence[Example]) -> Made:
    return [one for one in examples if len(one.source.split()) == 1], None


LETTER_CASE: dict[str, Maker] = {
    "upper case": lambda lines: _with_source_of("upper_case", lines),
    "title case": lambda lines: _with_source_of("title_case", lines),
    "lower case": lambda lines: _with_source_of("lower_case", lines),
}
CHANGED: dict[Task, dict[str, Maker]] = {
    "translation": LETTER_CASE
    | {
        "no final stop": _without_stop,
        "one typing mistake": _with_one_typo,
        COPIES: _copied,
    },
    "summarization": LETTER_CASE | {"typing mistakes": lambda lines: _with_source_of("typos", lines)},
}
"""Changes of every line, by task. A summary says neither the last stop of its text nor each of its words."""
PARTS: dict[Task, dict[str, Maker]] = {
    "translation": {PAIRS: _in_pairs, "longest tenth": _longest_tenth, "single words": _single_words},
    "summarization": {"longest tenth": _longest_tenth},
}
"""Some of the lines, or lines made of several, by task."""
