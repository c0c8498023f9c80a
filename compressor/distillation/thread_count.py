"""The number of processor threads of a run.

Threads wait for each other at every operator: one that shares its processor with other work holds up all, and a run
with two threads can be several times slower than one with a single thread.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import NamedTuple

import torch
from rich.console import Console

from compressor.processors import available_cpus

TOLERATED = 0.4
"""Load that is taken for an idle processor's: this program's own start, and what the system does at times."""


class ThreadChoice(NamedTuple):
    """A number of threads, and why."""

    threads: int
    reason: str


def choose_thread_count(
    asked: int | None,
    *,
    load: float | None = None,
    processors: int | None = None,
    machine: int | None = None,
    environment: Mapping[str, str] = os.environ,
) -> ThreadChoice:
    """Chooses as many threads as there are processors without other work, at least one.

    Call it before the run does work of its own, which counts as load.

    Args:
        asked: the recipe's ``training.threads``, which is taken as it is.
        load: the system's load average of the last minute: processes that run or wait for a processor. None: read.
        processors: how many this process may use. None: read.
        machine: how many the machine has. None: read.
        environment: ``OMP_NUM_THREADS`` is taken as it is; ``torchrun`` sets it to 1 for each process.
    """
    if asked is not None:
        return ThreadChoice(asked, "training.threads")
    if environment.get("OMP_NUM_THREADS", "").isdecimal():
        return ThreadChoice(max(1, int(environment["OMP_NUM_THREADS"])), "OMP_NUM_THREADS")
    load = os.getloadavg()[0] if load is None else load
    processors = processors or available_cpus()
    machine = max(machine or os.cpu_count() or 1, processors)
    busy = math.ceil(load * processors / machine - TOLERATED)  # of a machine of which we have a part: our part of it
    count = max(1, processors - max(0, busy))
    load_text = f"the load average of the last minute is {load:.1f}"
    if count == processors:
        return ThreadChoice(count, f"{load_text}, so all of {_count(processors)} are free")
    return ThreadChoice(
        count, f"of {_count(processors)}; {load_text}, and threads that wait for one another run slowly"
    )


def use_threads(asked: int | None, console: Console) -> None:
    """Sets PyTorch's number of threads for a run, and says what was chosen and why; with a GPU, only if asked."""
    if asked is None and torch.accelerator.is_available():
        return
    choice = choose_thread_count(asked)
    torch.set_num_threads(choice.threads)
    noun = "thread" if choice.threads == 1 else "threads"
    console.print(f"training with {choice.threads} {noun} ({choice.reason})", highlight=False, soft_wrap=True)


def _count(processors: int) -> str:
    return "1 processor" if processors == 1 else f"{processors} processors"
