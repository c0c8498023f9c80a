"""Chooses ONNX Runtime's thread counts: by itself it ignores the CPU affinity and the container's CPU quota."""

from __future__ import annotations

import logging
import os

from compressor.processors import available_cpus

_log = logging.getLogger(__name__)


def choose_threads(intra: int | None, inter: int | None = None, available: int | None = None) -> tuple[int, int]:
    """Chooses the threads inside one operator and the batches that run at the same time.

    By default an operator has one thread and every processor runs its own batch, which is fastest for many texts
    (docs/performance.md). If more threads than processors are asked for, a warning is logged.

    Args:
        intra: Threads inside one operator; None: chosen.
        inter: Batches at the same time; None: chosen.
        available: Number of processors; by default ``available_cpus``.

    Returns:
        ``(intra, inter)``. ``intra`` is 0 if a single batch has the whole machine: ONNX Runtime then starts a thread
        for each physical core and binds it there.
    """
    most = available or available_cpus()
    batches = inter or max(1, most // (intra or 1))
    threads = intra or max(1, most // batches)
    if threads * batches > most:
        _log.warning("%d threads on %d processors wait for one another: give fewer", threads * batches, most)
    whole = intra is None and batches == 1 and threads == (os.cpu_count() or 1)
    return (0 if whole else threads), batches
