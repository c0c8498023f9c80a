"""One thread that does all inference, in the order of admission, behind a bounded queue."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from serving.problems import Problem

T = TypeVar("T")


class Worker:
    """Runs jobs off the event loop. What is cancelled before its turn never runs.

    ``items`` is the number of texts admitted and not yet done.

    Args:
        capacity: The most that ``items`` may be.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._lock = threading.Lock()
        self.items = 0
        self._running_since: float | None = None

    def submit(self, job: Callable[[], T], items: int) -> asyncio.Future[T]:
        """Admits a job that counts for ``items`` texts.

        Raises:
            Problem: 429 where the queue has no room, 503 where the worker is closed.
        """
        with self._lock:
            if self.items + items > self.capacity:
                detail = f"the queue is full: {self.items} texts wait, {items} more exceed {self.capacity}; try later"
                raise Problem(429, detail, headers={"Retry-After": "1"})
            self.items += items
        try:
            future = self._executor.submit(self._timed, job)
        except RuntimeError:
            self._release(items)
            raise Problem(503, "the server is shutting down", headers={"Retry-After": "5"}) from None
        # Released when the thread is done with it, not when its client stopped waiting.
        future.add_done_callback(lambda _: self._release(items))
        return asyncio.wrap_future(future)

    def busy_seconds(self) -> float:
        """Returns for how long the current job has been running; 0 when idle."""
        since = self._running_since
        return 0.0 if since is None else time.monotonic() - since

    def close(self) -> None:
        """Drops what waits, and waits for what runs."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _timed(self, job: Callable[[], T]) -> T:
        self._running_since = time.monotonic()
        try:
            return job()
        finally:
            self._running_since = None

    def _release(self, items: int) -> None:
        with self._lock:
            self.items -= items
