"""Gives memory back to the operating system after a burst of large requests."""

from __future__ import annotations

import contextlib
import ctypes
import time
from typing import Any

_SECONDS = 5.0
"""Idle time after which memory is given back."""


class Trimmer:
    """Has glibc return the free pages of its heaps once the server is idle after work; by itself it keeps them."""

    def __init__(self) -> None:
        self._trim: Any = None
        with contextlib.suppress(OSError, AttributeError):  # not glibc
            self._trim = ctypes.CDLL("libc.so.6").malloc_trim
        self._worked = False
        self._busy_at = time.monotonic()

    def tick(self, busy: bool) -> None:
        """Notes whether the server works; it is called about once a second."""
        now = time.monotonic()
        if busy:
            self._worked, self._busy_at = True, now
        elif self._worked and now - self._busy_at >= _SECONDS:
            self._worked = False
            if self._trim is not None:
                self._trim(0)
