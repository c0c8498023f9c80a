"""How many processors this process may use: its affinity and its container's quota, which ONNX Runtime overlooks."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path

QUOTA_FILE = Path("/sys/fs/cgroup/cpu.max")
"""Of a container (cgroup v2): microseconds of processor time, or ``max``, in a period of so many microseconds."""

_log = logging.getLogger(__name__)


def available_cpus(quota_file: Path = QUOTA_FILE) -> int:
    """Processors that threads of this process can run on at a time; at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text(encoding="ascii").split()
        return max(1, min(allowed, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # no container, or one without a quota
        return allowed


def choose_threads(wanted: int | None, available: int | None = None) -> int:
    """Threads inside one operator: what is wanted, by default every processor that may be used.

    More threads than processors are taken with a warning: they wait for one another at the end of every operator.

    Returns:
        The number; 0, which leaves it to ONNX Runtime, where nothing is wanted and the whole machine may be used: it
        takes a thread a physical core then, and binds it there.
    """
    most = available or available_cpus()
    if wanted is None:
        return most if most < (os.cpu_count() or 1) else 0
    if wanted > most:
        _log.warning("%d threads on %d processors wait for one another: give %d or fewer", wanted, most, most)
    return wanted
