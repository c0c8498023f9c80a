"""Loops: an output that repeats the same n-gram over and over, as models do on text that they were not trained for.

A loop ends the output: one occurrence of the n-gram remains, and what follows is lost. Repetition that the source has,
too ("sehr sehr sehr sehr", a row of dashes), is none. By these thresholds none of 1,335,976 German-English references
is a loop, nor is any of a tenth of them in upper case.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence

LONGEST_PERIOD = 16
"""Tokens of the longest n-gram that is looked for."""


def _least_repeats(period: int) -> int:
    """Returns how often an n-gram of ``period`` tokens stands in a row in a loop, if the source repeats nothing.

    A longer n-gram takes at least as many tokens as any part of it, so that the shortest n-gram of a loop is reported.
    """
    return {1: 10, 2: 5}.get(period, 4 if period <= 8 else 3)


_LEAST = [_least_repeats(period) for period in range(1, LONGEST_PERIOD + 1)]
_FEWEST_REPEATED = min(period * (least - 1) for period, least in enumerate(_LEAST, 1))
"""Tokens of the shortest loop that are repetition."""


class _Stretches:
    """The stretches at the end of a growing list of tokens in which every token equals the one a period before."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.repeated = [0] * LONGEST_PERIOD
        """Tokens of the stretch after its first occurrence, for periods of 1, 2, ..."""

    def append(self, token: int) -> None:
        """Adds a token."""
        length = len(self.tokens)
        for period in range(1, min(LONGEST_PERIOD, length) + 1):
            goes_on = self.tokens[length - period] == token
            self.repeated[period - 1] = self.repeated[period - 1] + 1 if goes_on else 0
        self.tokens.append(token)

    def repeats(self) -> list[int]:
        """Returns how often the n-gram at the end stands in a row, for n-grams of 1, 2, ... tokens."""
        return [(repeated + period) // period for period, repeated in enumerate(self.repeated, 1)]


def until_loop(output: Iterable[int], source: Sequence[int]) -> Iterator[int]:
    """Yields the tokens of an output up to the end of the first occurrence of a loop; all of them where there is none.

    Tokens that may turn out to be a loop's are held back, so that none is taken back: what was yielded stays true.

    Args:
        output: Token ids, such as come from a search, one after the other. No more are taken once there is a loop.
        source: Token ids of the source.
    """
    ending = _Stretches()
    yielded, most = 0, 0
    for token in output:
        ending.append(token)
        for period, repeats in enumerate(ending.repeats()):
            if repeats >= _LEAST[period]:
                most = most or most_allowed(source)
                if repeats > most:
                    yield from ending.tokens[yielded : len(ending.tokens) - ending.repeated[period]]
                    return
        settled = len(ending.tokens) - max(ending.repeated)
        yield from ending.tokens[yielded:settled]
        yielded = max(yielded, settled)
    yield from ending.tokens[yielded:]


def cut_loop(output: list[int], source: Sequence[int]) -> list[int]:
    """Returns an output up to a loop, see ``until_loop``; a shorter list than ``output`` says that there was one."""
    return list(until_loop(output, source)) if _may_loop(output) else output


def _may_loop(output: list[int]) -> bool:
    """Returns False for outputs that have too few equal tokens at any distance; it takes microseconds."""
    if len(output) - len(set(output)) < _FEWEST_REPEATED:
        return False
    return any(
        sum(map(operator.eq, output, output[period:])) >= period * (least - 1) for period, least in enumerate(_LEAST, 1)
    )


def most_allowed(source: Sequence[int]) -> int:
    """Returns how often an n-gram may stand in a row in an output: half as often again as in the source, or once more.

    The same repetition has other n-grams in another language, so n-grams of all lengths are compared.
    """
    ending, most = _Stretches(), 1
    for token in source:
        ending.append(token)
        most = max(most, *ending.repeats())
    return most + max(1, most // 2)
