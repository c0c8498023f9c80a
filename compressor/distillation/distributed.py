"""Processes that share a run: ``torchrun --nproc-per-node N -m compressor distill ...``; one process is the default."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from torch.distributed import DistError

from compressor.errors import LostProcess
from compressor.provenance import cpu

Value = TypeVar("Value")

LONGEST_WAIT = timedelta(days=7)
"""Time limit of collective operations: the other processes wait while the main one writes the teacher's outputs."""

COLLECTIVES = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
"""Parts of the messages of collective operations that fail; not all of them have an exception of their own."""


def this_process() -> PartialState:
    """Returns the state of this process among those that torchrun started."""
    return PartialState(cpu=_on_processor(), timeout=LONGEST_WAIT)


def accelerator(mixed_precision: str) -> Accelerator:
    """Returns what places a model on its device and averages its gradients over the processes."""
    this_process()
    # accelerate keeps the precision of a program's first run, and refuses another one afterwards.
    AcceleratorState._reset_state()
    return Accelerator(cpu=_on_processor(), mixed_precision=mixed_precision)


@contextmanager
def lost_processes() -> Iterator[None]:
    """Turns the failure of a collective operation, which another process's end causes, into LostProcess."""
    try:
        yield
    except RuntimeError as error:
        message = str(error)
        if this_process().num_processes == 1 or not (
            isinstance(error, DistError) or any(name in message for name in COLLECTIVES)
        ):
            raise
        raise LostProcess(
            "another process of this run has ended, see its message; start all of them again with {resume}: the run "
            "goes on from its last checkpoint",
            options={"resume": True},
        ) from error


def any_process(accelerator: Accelerator, flag: bool) -> bool:
    """Returns whether the flag is set in any process; all must leave the loop together, or some wait for the others."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device)) > 0)


def sum_over_processes(accelerator: Accelerator, *numbers: float) -> tuple[float, ...]:
    """Returns each number summed over the processes, in one collective operation."""
    if accelerator.num_processes == 1:
        return numbers
    local = torch.tensor(numbers, dtype=torch.float64, device=accelerator.device)
    return tuple(accelerator.reduce(local, reduction="sum").tolist())


def gather_objects(accelerator: Accelerator, value: Value) -> list[Value]:
    """Returns each process's value, in the order of the processes."""
    if accelerator.num_processes == 1:
        return [value]
    values: list[Any] = [None] * accelerator.num_processes
    torch.distributed.all_gather_object(values, value)
    return values


def mixed_precision(precision: str) -> str:
    """Returns accelerate's name of a recipe's ``training.precision``; "auto" is bf16 where the hardware has it."""
    match precision:
        case "bf16":
            return "bf16"
        case "fp32":
            return "no"
        case _:
            if torch.cuda.is_available():
                return "bf16" if torch.cuda.is_bf16_supported() else "no"
            return "bf16" if {"avx512_bf16", "amx_bf16", "bf16"} & set(cpu()["features"]) else "no"


def _on_processor() -> bool:
    """Returns whether to train on the CPU; unless told so, accelerate starts no process group without a GPU."""
    return not torch.accelerator.is_available()
