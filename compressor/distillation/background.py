"""Rollouts by a second process, which has the student's weights of a moment before, while the first one trains it.

With greedy or top-k rollouts of several batches at a time, the student that writes is one group of batches old, and the
time of rollouts is hidden where a processor is free.
"""

from __future__ import annotations

import copy
import signal
import weakref
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch

from compressor.batching import TokenIds
from compressor.distillation.rollout import SampleKey
from compressor.errors import LostProcess
from compressor.models.base import Seq2SeqModel

WAIT_AT_END = 5.0
"""Seconds that the process has to end by itself."""

Write = Callable[..., list[list[int]]]
"""``rollout`` with all its settings: model and sources, keys by name -> outputs. It goes to another process."""


class BackgroundRollouts:
    """A process that writes one job of rollouts at a time; it ends with this object."""

    def __init__(self, student: Seq2SeqModel, write: Write, dtype: torch.dtype = torch.float32) -> None:
        """``student``: on the CPU; its weights are copied into shared memory, as ``dtype``, at each job."""
        self._copy = copy.deepcopy(student).to(dtype).share_memory()
        context = torch.multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(self._copy, write, theirs), daemon=True)
        process.start()
        theirs.close()
        self.pending = False
        """Whether a job was begun and not taken."""
        self._finalizer = weakref.finalize(self, _end, process, self._connection)

    def begin(self, student: Seq2SeqModel, sources: Sequence[TokenIds], keys: Sequence[SampleKey]) -> None:
        """Begins a job with the student's present weights; the job before must have been taken."""
        self._copy.load_state_dict(student.state_dict())
        try:
            self._connection.send((sources, keys))
        except OSError:
            raise _lost() from None
        self.pending = True

    def take(self) -> list[list[int]]:
        """Waits for the job and returns its outputs. Raises LostProcess if the process has ended."""
        self.pending = False
        try:
            outputs = self._connection.recv()
        except (EOFError, OSError):
            raise _lost() from None
        if isinstance(outputs, Exception):
            raise outputs
        return list(outputs)


def _lost() -> LostProcess:
    return LostProcess(
        "the process that writes rollouts has ended, perhaps for lack of memory; go on with {resume}, or leave out "
        "method.rollout.background",
        options={"resume": True},
    )


def _serve(model: Seq2SeqModel, write: Write, connection: Connection) -> None:
    """Writes job after job, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the one that trains decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    while True:
        try:
            sources, keys = connection.recv()
        except (EOFError, OSError):
            return
        try:
            outputs: object = write(model, sources, keys=keys)
        except Exception as error:  # it is raised where it can be handled
            outputs = error
        connection.send(outputs)


def _end(process: Any, connection: Connection) -> None:
    connection.close()
    process.join(WAIT_AT_END)
    if process.is_alive():
        process.kill()
        process.join()
