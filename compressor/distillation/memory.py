"""Settings of the C library's memory allocator for training."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Option numbers of glibc's ``mallopt``."""


def reuse_freed_memory() -> None:
    """Makes glibc keep freed buffers; by default it unmaps large ones, and each update pays the page faults again."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:  # not glibc
        return
    libc.mallopt(M_MMAP_MAX, 0)  # no buffer gets a mapping of its own
    libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)  # the heap never shrinks
