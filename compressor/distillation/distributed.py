"""Processes that share a run: ``torchrun --nproc-per-node N -m compressor distill ...``; one process is the default."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from torch.distributed import DistError

from compressor.errors import LostProcess
from compressor.provenance import cpu

Value = TypeVar("Value")

WAIT_MINUTES = 10.0
"""Time limit of collective operations where no recipe says another. Between two of them all processes do alike work;
where they do not, see ``main_process_first``."""

BEATS = 10
"""Signs of life that the main process gives in the time limit."""

COLLECTIVES = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
"""Parts of the messages of collective operations that fail; not all of them have an exception of their own."""


def this_process(wait_minutes: float = WAIT_MINUTES) -> PartialState:
    """Returns the state of this process among those that torchrun started; the first call joins them.

    Args:
        wait_minutes: Time limit of collective operations, where this is the first call.
    """
    return PartialState(cpu=_on_processor(), timeout=timedelta(minutes=wait_minutes))


def accelerator(mixed_precision: str) -> Accelerator:
    """Returns what places a model on its device and averages its gradients over the processes."""
    this_process()
    # accelerate keeps the precision of a program's first run, and refuses another one afterwards.
    AcceleratorState._reset_state()
    return Accelerator(cpu=_on_processor(), mixed_precision=mixed_precision)


@contextmanager
def main_process_first(process: PartialState, wait_minutes: float) -> Iterator[None]:
    """Runs the block in the main process, however long it takes, and then in the others.

    Meanwhile a thread of the main process gives signs of life, which have a time limit as other collective operations
    do: so hours of work are told from a process that hangs.

    Args:
        process: This process.
        wait_minutes: Time limit of a sign of life.
    """
    if process.num_processes == 1:
        yield
        return
    # Not the group of the GPUs, whose operations wait for one another.
    group = torch.distributed.new_group(backend="gloo", timeout=timedelta(minutes=wait_minutes))

    def tell(done: bool) -> bool:
        """Returns what the main process says, which the others hear."""
        told = torch.tensor(float(done))
        torch.distributed.broadcast(told, src=0, group=group)
        return bool(told)

    if process.is_main_process:
        with _repeated(lambda: tell(False), 60 * wait_minutes / BEATS):
            yield
        tell(True)
        return
    while not tell(False):
        pass
    yield


@contextmanager
def _repeated(action: Callable[[], object], seconds: float) -> Iterator[None]:
    """Repeats an action in a thread while the block runs, until it fails with a RuntimeError."""
    ended = threading.Event()

    def repeat() -> None:
        with suppress(RuntimeError):  # the next collective operation of the main thread fails likewise
            while not ended.wait(seconds):
                action()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def lost_processes(wait_minutes: float = WAIT_MINUTES) -> Iterator[None]:
    """Turns the failure of a collective operation, which another process's end or silence causes, into LostProcess.

    Args:
        wait_minutes: Time limit of the operations, for the message.
    """
    try:
        yield
    except RuntimeError as error:
        message = str(error)
        if this_process().num_processes == 1 or not (
            isinstance(error, DistError) or any(name in message for name in COLLECTIVES)
        ):
            raise
        silent = "timed out" in message.lower()
        problem = (
            f"another process of this run has not answered for {wait_minutes:g} minutes (training.wait_minutes): it "
            "hangs, or was stopped; end it"
            if silent
            else "another process of this run has ended, see its message"
        )
        raise LostProcess(
            f"{problem}; start all of them again with {{resume}}: the run goes on from its last checkpoint",
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
