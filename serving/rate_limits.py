"""How many requests a client may send in a span of time."""

from __future__ import annotations

import math
import time

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter


class RateLimits:
    """Counts of the requests of each client in its current window.

    Workers share the one of their supervisor (see ``serving.workers``), so its methods take and return plain values.
    """

    def __init__(self) -> None:
        self._counter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._rates: dict[str, RateLimitItem] = {}

    def seconds_to_wait(self, rate: str, client: str) -> int:
        """Counts a request; returns 0 if it may run, else for how long the client should wait."""
        item = self._rates.get(rate) or self._rates.setdefault(rate, parse(rate))
        if self._counter.hit(item, client):
            return 0
        return max(1, math.ceil(self._counter.get_window_stats(item, client).reset_time - time.time()))
