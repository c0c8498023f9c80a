"""Notices that updates suddenly take much longer, which other work on the machine does to a run."""

from __future__ import annotations

import statistics
from collections import deque

SUDDEN = 3.0
"""Times the usual duration at which an episode begins."""

OVER = 1.5
"""Times the usual duration below which an episode is over."""

WINDOW, ENOUGH = 100, 8
"""Groups that say what is usual, and how many of about the same size there must be."""

SIMILAR = 1.5
"""Ratio of the tokens of two groups up to which they are compared."""


class SlowdownWatch:
    """Compares the duration of each group of updates with the running median at the same number of tokens."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, int]] = deque(maxlen=WINDOW)
        """Seconds and tokens of groups outside of episodes."""
        self._slow = False

    def observe(self, seconds: float, tokens: int) -> float | None:
        """Returns how many times as long as usual a group took where an episode begins with it; else None.

        Args:
            seconds: how long the group took.
            tokens: target tokens in it.
        """
        ratio = seconds / usual if (usual := self._usual(tokens)) else 1.0
        if self._slow:
            self._slow = ratio > OVER
        elif ratio > SUDDEN:
            self._slow = True
            return ratio
        if not self._slow:
            self._recent.append((seconds, tokens))
        return None

    def _usual(self, tokens: int) -> float | None:
        """Median seconds of the recent groups of about so many tokens; None if there are few."""
        similar = [seconds for seconds, count in self._recent if tokens / SIMILAR <= count <= tokens * SIMILAR]
        return statistics.median(similar) if len(similar) >= ENOUGH else None
