"""One process, or several that share a run: ``torchrun --nproc-per-node N -m compressor distill ...``."""

from __future__ import annotations

from datetime import timedelta

import torch
from accelerate import Accelerator, PartialState

LONGEST_WAIT = timedelta(days=7)
"""The main process may write a teacher's outputs for hours before the others are needed."""


def this_process() -> PartialState:
    """This process among those that torchrun started."""
    return PartialState(cpu=_on_processor(), timeout=LONGEST_WAIT)


def accelerator(mixed_precision: str) -> Accelerator:
    """Places a model, and averages its gradients over the processes."""
    this_process()
    return Accelerator(cpu=_on_processor(), mixed_precision=mixed_precision)


def any_process(accelerator: Accelerator, flag: bool) -> bool:
    """Whether the flag is set in any process: what ends the loop must end it for all, or the others wait for ever."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device)) > 0)


def _on_processor() -> bool:
    """Must be said: without it, the processes of a machine without accelerators each make a run of their own."""
    return not torch.accelerator.is_available()
