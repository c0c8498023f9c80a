"""The queue in front of the inference thread. It takes jobs and completes their futures."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple

from serving.jobs import DeadlineExceeded, Draining, Job, QueueFull, ServingEngine, WorkerDead

_log = logging.getLogger("serving")


TOGETHER = 64
"""Jobs of a request that run together; other requests have their turn before the next of them."""


class BatchRecord(NamedTuple):
    """Measurements of a batch that has run."""

    engine: ServingEngine
    waits: list[float]
    """Seconds between the request and the start of each job."""
    tokens: int
    """Source tokens, padding included."""
    seconds: float
    """Time of the inference."""


class _Batch(NamedTuple):
    """Jobs of a request that have not begun."""

    engine: ServingEngine
    jobs: tuple[Job, ...]

    def cut(self) -> tuple[_Batch, _Batch]:
        """Returns what runs now, which is one job if outputs are streamed, and the rest."""
        count = TOGETHER if self.jobs[0].on_delta is None else 1
        return _Batch(self.engine, self.jobs[:count]), _Batch(self.engine, self.jobs[count:])


class Batcher:
    """Runs jobs in one thread, in the order of submission. Jobs that were submitted together run together.

    Long requests take turns: of each, up to ``TOGETHER`` jobs run, and its rest goes to the end of the queue.

    A job occupies its places from its submission until its future is done. A job that is cancelled in the queue frees
    them at once; one that is running frees them when the inference has ended.

    Args:
        capacity: Number of places, which is of texts.
        on_batch: Called in the inference thread after each batch.
    """

    def __init__(self, capacity: int, on_batch: Callable[[BatchRecord], None] | None = None) -> None:
        self.capacity = capacity
        self._on_batch = on_batch
        self._items = 0
        self._queue: deque[_Batch] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._dead = False
        self._busy_since: float | None = None

    @property
    def items(self) -> int:
        """Texts that were admitted and are not done."""
        return self._items

    @property
    def tokens(self) -> int:
        """Source tokens of the sentences that wait."""
        return sum(len(job.source.token_ids) for batch in list(self._queue) for job in batch.jobs)

    @property
    def is_dead(self) -> bool:
        """Whether the inference thread ended although the batcher was not closed."""
        return self._dead

    def busy_seconds(self) -> float:
        """Returns for how long the current batch has been running; 0 when idle."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def require_room(self, count: int) -> None:
        """Raises the error that a submission of ``count`` texts would raise now."""
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
            QueueFull: there are fewer free places than the jobs occupy.
            Draining: the batcher is closed.
            WorkerDead: the inference thread has ended.
        """
        places = sum(job.places for job in jobs)
        with self._changed:
            self.require_room(places)
            self._items += places
            if jobs:
                self._queue.append(_Batch(engine, tuple(jobs)))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="inference", daemon=True)
                self._thread.start()
            self._changed.notify()
        for job in jobs:
            if job.places:
                job.future.add_done_callback(partial(self._release, job.places))

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
            if not self._queue:
                return None
            batch, rest = self._queue.popleft().cut()
            if rest.jobs:
                self._queue.append(rest)
            return batch

    def _run(self, engine: ServingEngine, jobs: Sequence[Job]) -> None:
        """Runs a batch without its cancelled and late jobs; an exception of the engine fails the whole batch."""
        running = [job for job in jobs if _begin(job)]
        if not running:
            return
        self._busy_since = started = time.monotonic()
        try:
            if running[0].on_delta is not None:
                outputs = [_stream(engine, running[0], running[0].on_delta)]
            else:
                outputs = engine.search(running)
            for job, token_ids in zip(running, outputs, strict=True):
                job.future.set_result(token_ids)
            if self._on_batch is not None:
                waits = [started - (job.deadline.expires_at - job.deadline.timeout_ms / 1000) for job in running]
                tokens = len(running) * max(len(job.source.token_ids) for job in running)
                self._on_batch(BatchRecord(engine, waits, tokens, time.monotonic() - started))
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
        _log.critical("the inference thread has ended; %d waiting sentences fail", len(waiting), exc_info=True)
        _fail(waiting, WorkerDead())

    def _release(self, places: int, _: Future[list[int]]) -> None:
        with self._changed:
            self._items -= places


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
