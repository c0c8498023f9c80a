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


def choose_threads(intra: int | None, inter: int | None = None, available: int | None = None) -> tuple[int, int]:
    """Threads inside one operator, and batches at a time; what is not wanted is chosen.

    By default an operator has one thread and every processor a batch of its own, which is fastest with many texts
    (docs/performance.md). More threads than processors are taken with a warning: they wait for one another.

    Returns:
        Both; ``intra`` is 0, which leaves it to ONNX Runtime, where one batch at a time has the whole machine: it takes
        a thread a physical core then, and binds it there.
    """
    most = available or available_cpus()
    batches = inter or max(1, most // (intra or 1))
    threads = intra or max(1, most // batches)
    if threads * batches > most:
        _log.warning("%d threads on %d processors wait for one another: give fewer", threads * batches, most)
    whole = intra is None and batches == 1 and threads == (os.cpu_count() or 1)
    return (0 if whole else threads), batches
