"""Slices of a test set: its lines as they are, and as users type them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from compressor.data.examples import Example
from compressor.data.text_changes import CHANGES, ends_with_stop

SEED = 1
"""Of the changes: every model is asked the same."""


class Slice(NamedTuple):
    """Lines of a test set, changed in one way; every one of them has a reference."""

    name: str
    examples: list[Example]
    split: bool = False
    """Whether each line is read sentence by sentence, as `compress translate` does, and not whole."""


def make_slices(examples: Sequence[Example]) -> list[Slice]:
    """Returns the slices that the test set yields, the unchanged one first.

    Changes of letter case and typing mistakes leave the reference alone, so that scores without regard to case
    compare with those of the unchanged text.
    """
    makers: dict[str, Callable[[Sequence[Example]], list[Example]]] = {
        "as it is": list,
        "upper case": lambda lines: _with_source_of("upper_case", lines),
        "title case": lambda lines: _with_source_of("title_case", lines),
        "lower case": lambda lines: _with_source_of("lower_case", lines),
        "no final stop": lambda lines: _changed("no_stop", lines),
        "one typing mistake": _with_one_typo,
        "two sentences": _in_pairs,
        "longest tenth": lambda lines: sorted(lines, key=lambda one: -len(one.source))[: max(1, len(lines) // 10)],
        "single words": lambda lines: [one for one in lines if len(one.source.split()) == 1],
        "copied words": lambda lines: _changed("copied", lines),
    }
    made = [Slice(name, make(examples)) for name, make in makers.items()]
    made += [Slice(f"{one.name}, split", one.examples, True) for one in made if one.name == "two sentences"]
    return [one for one in made if one.examples]


def _changed(name: str, examples: Sequence[Example]) -> list[Example]:
    """Returns both sides changed."""
    return [CHANGES[name](one, random.Random(f"{SEED} {index}")) for index, one in enumerate(examples)]


def _with_source_of(name: str, examples: Sequence[Example]) -> list[Example]:
    changed = _changed(name, examples)
    return [Example(new.source, old.target) for new, old in zip(changed, examples, strict=True)]


def _with_one_typo(examples: Sequence[Example]) -> list[Example]:
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
    return changed


def _in_pairs(examples: Sequence[Example]) -> list[Example]:
    """Returns every two neighbours that are sentences, in one line."""
    sentences = [one for one in examples if ends_with_stop(one.source) and ends_with_stop(one.target or "")]
    pairs = zip(sentences[::2], sentences[1::2], strict=False)
    return [Example(f"{a.source} {b.source}", f"{a.target} {b.target}") for a, b in pairs]
