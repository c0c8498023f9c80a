"""The queue in front of the inference thread. It takes jobs and completes their futures."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from serving.jobs import DeadlineExceeded, Draining, Job, QueueFull, ServingEngine, WorkerDead

_log = logging.getLogger("serving")


class _Batch(NamedTuple):
    """Jobs that run together: one job with a streamed output, or any number of jobs without."""

    engine: ServingEngine
    jobs: tuple[Job, ...]


class Batcher:
    """Runs jobs in one thread, in the order of submission. Jobs that were submitted together run together.

    A job occupies a place from its submission until its future is done. A job that is cancelled in the queue frees its
    place at once; one that is running frees it when the inference has ended.

    Args:
        capacity: Number of places.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._items = 0
        self._queue: deque[_Batch] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._dead = False
        self._busy_since: float | None = None

    @property
    def items(self) -> int:
        """Jobs that were admitted and are not done."""
        return self._items

    @property
    def is_dead(self) -> bool:
        """Whether the inference thread ended although the batcher was not closed."""
        return self._dead

    def busy_seconds(self) -> float:
        """Returns for how long the current batch has been running; 0 when idle."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def require_room(self, count: int) -> None:
        """Raises the error that a submission of ``count`` jobs would raise now."""
        if self._closed:
            raise Draining
        if self._dead:
            raise WorkerDead
        if self._items + count > self.capacity:
            raise QueueFull(self._items, count, self.capacity)

    def submit(self, engine: ServingEngine, jobs: Sequence[Job]) -> None:
        """Admits all jobs or none.

        Args:
            engine: Runs the jobs.
            jobs: Jobs of one request, with the same options.

        Raises:
            QueueFull: there are fewer free places than jobs.
            Draining: the batcher is closed.
            WorkerDead: the inference thread has ended.
        """
        with self._changed:
            self.require_room(len(jobs))
            self._items += len(jobs)
            streamed = any(job.on_delta is not None for job in jobs)
            self._queue += [_Batch(engine, (job,)) for job in jobs] if streamed else [_Batch(engine, tuple(jobs))]
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="inference", daemon=True)
                self._thread.start()
            self._changed.notify()
        for job in jobs:
            job.future.add_done_callback(lambda _: self._release())

    def close(self) -> None:
        """Cancels the jobs in the queue and waits for the running batch."""
        with self._changed:
            self._closed = True
            waiting = [job for batch in self._queue for job in batch.jobs]
            self._queue.clear()
            self._changed.notify()
        for job in waiting:
            job.future.cancel()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        """Runs batches until the batcher is closed, or an exception such as SystemExit ends the thread."""
        try:
            while (batch := self._next()) is not None:
                self._run(*batch)
        except BaseException:
            self._die()

    def _next(self) -> _Batch | None:
        """Returns the next batch, or None once the batcher is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            return self._queue.popleft() if self._queue else None

    def _run(self, engine: ServingEngine, jobs: Sequence[Job]) -> None:
        """Runs a batch without its cancelled and late jobs; an exception of the engine fails the whole batch."""
        running = [job for job in jobs if _begin(job)]
        if not running:
            return
        self._busy_since = time.monotonic()
        try:
            if running[0].on_delta is not None:
                outputs = [_stream(engine, running[0], running[0].on_delta)]
            else:
                outputs = engine.search(running)
            for job, token_ids in zip(running, outputs, strict=True):
                job.future.set_result(token_ids)
        except Exception as error:
            _fail(running, error)
        except BaseException:
            _fail(running, WorkerDead())
            raise
        finally:
            self._busy_since = None

    def _die(self) -> None:
        """Fails all jobs in the queue."""
        with self._changed:
            self._dead = True
            waiting = [job for batch in self._queue for job in batch.jobs if _begin(job)]
            self._queue.clear()
        _log.critical("the inference thread has ended; %d waiting texts fail", len(waiting), exc_info=True)
        _fail(waiting, WorkerDead())

    def _release(self) -> None:
        with self._changed:
            self._items -= 1


def _begin(job: Job) -> bool:
    """Marks a job as running; returns False for one that was cancelled or whose deadline has passed."""
    if not job.future.set_running_or_notify_cancel():
        return False
    if job.deadline.seconds_left() > 0:
        return True
    job.future.set_exception(DeadlineExceeded(job.deadline.timeout_ms))
    return False


def _stream(engine: ServingEngine, job: Job, on_delta: Callable[[str], bool]) -> list[int]:
    """Hands out the pieces of a job's output, and returns its token ids; none if no more pieces were wanted."""
    deltas = engine.stream(job)
    while True:
        try:
            delta = next(deltas)
        except StopIteration as end:
            token_ids: list[int] = end.value
            return token_ids
        if not on_delta(delta):
            return []


def _fail(jobs: Sequence[Job], error: BaseException) -> None:
    for job in jobs:
        if not job.future.done():
            job.future.set_exception(error)
