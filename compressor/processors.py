"""The processors that this process may use, by its CPU affinity and the container's CPU quota."""

from __future__ import annotations

import math
import os
from pathlib import Path

QUOTA_FILE = Path("/sys/fs/cgroup/cpu.max")
"""CPU quota of a container (cgroup v2): ``QUOTA PERIOD`` in microseconds; a quota of ``max`` is no limit."""


def available_cpus(quota_file: Path = QUOTA_FILE) -> int:
    """Number of processors that this process can use at the same time; at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text(encoding="ascii").split()
        return max(1, min(allowed, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # not in a container, or no quota
        return allowed
