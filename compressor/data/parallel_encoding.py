"""Encodes a corpus on all processors, in order.

The processes are programs of their own, not copies of this one: it may have threads, and a user's script would be run
again by ``multiprocessing``.
"""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

from compressor.data.encoding import EncodedTexts, encode
from compressor.data.encoding_worker import Request
from compressor.data.text_rows import BLOCK, TextRows
from compressor.data_config import DataConfig
from compressor.errors import DataError
from compressor.text.tokenizer import Tokenizer

FEW = 20_000
"""Examples that are encoded here: starting processes takes as long."""

AHEAD = 2
"""Requests that wait for each process; results are taken in order, so a slow one holds up the others' results."""

ROOT = Path(__file__).resolve().parents[2]


def encode_rows(
    parts: Sequence[TextRows],
    tokenizer: Tokenizer,
    tokenizer_folder: Path,
    data: DataConfig,
    first_ids: tuple[int, ...] = (),
    *,
    processes: int,
) -> Iterator[EncodedTexts]:
    """Yields the encoded texts of some thousand rows at a time, in order.

    Args:
        parts: the texts.
        tokenizer: the student's.
        tokenizer_folder: where it is saved, for the processes.
        data, first_ids: see ``encode``.
        processes: how many encode; with 1, or few rows, this one alone does.

    Raises:
        DataError: a process ended.
    """
    blocks = [(part, start) for part in parts for start in range(0, len(part), BLOCK)]
    if processes == 1 or sum(map(len, parts)) <= FEW:
        for part, start in blocks:
            yield encode(part[start : start + BLOCK], tokenizer, data, first_ids)
        return
    with _Processes(tokenizer_folder, processes) as workers:
        waiting: deque[Future[EncodedTexts]] = deque()
        for part, start in blocks:
            place = part.place(start, min(start + BLOCK, len(part)))
            waiting.append(workers.submit(Request(str(part.path), *place, data, first_ids)))
            if len(waiting) > AHEAD * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class _Processes:
    """Processes that encode; a thread for each sends requests and waits for results."""

    def __init__(self, tokenizer_folder: Path, count: int) -> None:
        command = [sys.executable, "-m", "compressor.data.encoding_worker", str(tokenizer_folder.resolve())]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false"}
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

    def submit(self, request: Request) -> Future[EncodedTexts]:
        """Returns what will be the encoded texts of a request."""
        return self._threads.submit(self._call, request)

    def _call(self, request: Request) -> EncodedTexts:
        """Sends a request to a process that has none, and returns its answer. Raises DataError if the process ended."""
        process = self._idle.get()
        assert process.stdin is not None and process.stdout is not None
        try:
            pickle.dump(request, process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()
            encoded: EncodedTexts = pickle.load(process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            raise DataError(
                f"a process that encodes text stopped (exit code {process.wait()}): memory ran out, or see above; "
                "what was written is not used"
            ) from None
        finally:
            self._idle.put(process)
        return encoded
