"""Finds the words of a short text, or most of them, in a longer one."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

CONTENT = 4
"""Letters of a word that says enough alone: shorter ones are often articles and prepositions."""
_STEM = 0.6
"""Share of the longer of two words that is the same at their beginnings, for words that are alike."""
_SKIPPED = 2
"""Words that the output may have between two of an element's translation."""


def _alike(word: str | None, wanted: str) -> bool:
    """Returns whether two words are the same, or most of their letters: ``safe`` and ``safely``."""
    if word is None or word[:CONTENT] != wanted[:CONTENT]:
        return False
    return word == wanted or word.startswith(wanted[: max(CONTENT, ceil(_STEM * max(len(word), len(wanted))))])


def common_runs(target: Sequence[str], words: Sequence[str | None]) -> list[tuple[int, int, int]]:
    """Returns where the words have a part of ``target``, as long as it is in both.

    That is the first word, the one after the last, and the place of the first in ``target``.
    """
    runs, lengths = [], [0] * (len(target) + 1)
    for index, word in enumerate([*words, None]):
        following = [0] * (len(target) + 1)
        for place, wanted in enumerate(target):
            is_alike = _alike(word, wanted)
            if is_alike:
                following[place + 1] = lengths[place] + 1
            if lengths[place] and not is_alike:
                runs.append((index - lengths[place], index, place - lengths[place]))
        if lengths[-1]:
            runs.append((index - lengths[-1], index, len(target) - lengths[-1]))
        lengths = following
    return runs


def extended(run: tuple[int, int, int], target: Sequence[str], words: Sequence[str | None]) -> tuple[int, int]:
    """Returns the words of a run with those near it that are alike the rest of ``target``, in any order.

    So ``commit ID`` is alike ``ID of the commit``.
    """
    first, last, place = run
    rest = [*target[:place], *target[place + last - first :]]
    while rest:
        after = range(last, min(last + _SKIPPED + 1, len(words)))
        before = range(first - 1, max(first - _SKIPPED - 2, -1), -1)
        near = ((index, wanted) for index in (*after, *before) for wanted in rest if _alike(words[index], wanted))
        index, wanted = next(near, (first, ""))
        if not wanted:
            break
        rest.remove(wanted)
        first, last = min(first, index), max(last, index + 1)
    return first, last
