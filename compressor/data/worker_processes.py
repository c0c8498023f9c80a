"""Processes that work on a corpus beside one another, and answer in order.

They are programs of their own, not copies of this one: it may have threads, and a user's script would be run again by
``multiprocessing``.
"""

from __future__ import annotations

import pickle
import queue
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from compressor.child_process import child_environment
from compressor.errors import DataError

AHEAD = 2
"""Requests that wait for each process; results are taken in order, so a slow one holds up the others' results."""


class WorkerProcesses:
    """Processes that answer requests; a thread for each sends requests and waits for answers.

    Args:
        module: the program of each; it calls ``serve``.
        arguments: of the program.
        count: how many.
    """

    def __init__(self, module: str, arguments: Sequence[str | Path], count: int) -> None:
        command = [sys.executable, "-m", module, *map(str, arguments)]
        environment = child_environment(TOKENIZERS_PARALLELISM="false")
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        self._all = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
            for _ in range(count)
        ]
        for process in self._all:
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if any(error):
            for process in self._all:
                process.kill()
        self._threads.shutdown(cancel_futures=True)
        for process in self._all:
            process.communicate()  # closes the pipes, at which the process ends, and waits

    def answers(self, requests: Iterable[Any]) -> Iterator[Any]:
        """Yields the answers to requests, in order. Raises DataError if a process ended."""
        waiting: deque[Future[Any]] = deque()
        for request in requests:
            waiting.append(self._threads.submit(self._call, request))
            if len(waiting) > AHEAD * len(self._all):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _call(self, request: Any) -> Any:
        """Sends a request to a process that has none, and returns its answer. Raises DataError if the process ended."""
        process = self._idle.get()
        assert process.stdin is not None and process.stdout is not None
        try:
            pickle.dump(request, process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()
            return pickle.load(process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            raise DataError(
                f"a process that encodes text stopped (exit code {process.wait()}): memory ran out, or see above; "
                "what was written is not used"
            ) from None
        finally:
            self._idle.put(process)


def serve(answer: Callable[[Any], Any]) -> None:
    """Answers the requests of ``WorkerProcesses``, in the process, until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which closes the pipe
    while True:
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(answer(request), sys.stdout.buffer, protocol=pickle.HIGHEST_PROTOCOL)
        sys.stdout.buffer.flush()
