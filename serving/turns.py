"""What an inference thread runs in one turn: a batch of jobs, or the next piece of a streamed job."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from compressor.runtime.streaming import Deltas
from serving.jobs import DeadlineExceeded, Job, ServingEngine, WorkerDead

_log = logging.getLogger("serving")


class BatchRecord(NamedTuple):
    """Measurements of a batch that has run."""

    engine: ServingEngine
    waits: list[float]
    """Seconds between the admission and the start of each job."""
    tokens: int
    """Source tokens, padding included."""
    seconds: float
    """Time of the inference."""


class JobBatch:
    """Jobs that one search runs together: of one engine, with one number of beams and one size of blocked n-grams."""

    def __init__(self, engine: ServingEngine, jobs: Sequence[Job]) -> None:
        self.engine = engine
        self.jobs = jobs
        self.record: BatchRecord | None = None

    def run(self) -> bool:
        """Completes the future of every job; returns False, because a batch has one turn.

        Jobs that were cancelled or are late do not run. After an exception of the engine each job runs once more and
        alone, so that only the job that causes it fails.
        """
        running = [job for job in self.jobs if begin(job)]
        if not running:
            return False
        started = time.monotonic()
        try:
            self._search(running)
        except Exception as error:
            self._search_each(running, error)
        except BaseException:
            fail(running, WorkerDead())
            raise
        waits = [started - job.created_at for job in running]
        tokens = len(running) * max(len(job.source.token_ids) for job in running)
        self.record = BatchRecord(self.engine, waits, tokens, time.monotonic() - started)
        return False

    def _search(self, jobs: Sequence[Job]) -> None:
        for job, token_ids in zip(jobs, self.engine.search(jobs), strict=True):
            job.future.set_result(token_ids)

    def _search_each(self, jobs: Sequence[Job], error: Exception) -> None:
        """Runs the jobs of a failed batch one by one; a job that was alone in it fails with the batch's error."""
        if len(jobs) == 1:
            return fail(jobs, error)
        _log.warning("a batch of %d sentences failed; each of them runs alone", len(jobs), exc_info=error)
        try:
            for job in jobs:
                if _is_late(job):
                    continue
                try:
                    self._search([job])
                except Exception as own_error:
                    fail([job], own_error)
        except BaseException:
            fail(jobs, WorkerDead())
            raise


class JobStream:
    """The streamed jobs of one request. They run one after another, a piece of text a turn."""

    def __init__(self, engine: ServingEngine, jobs: Sequence[Job]) -> None:
        self.engine = engine
        self._waiting = deque(jobs)
        self._job: Job | None = None
        self._deltas: Deltas | None = None

    def jobs(self) -> list[Job]:
        """Returns the jobs that are not complete."""
        return [*([self._job] if self._job is not None else []), *self._waiting]

    def run(self) -> bool:
        """Hands out the next piece, or completes the running job; returns whether another turn is needed."""
        if self._job is None and not self._begin_next():
            return False
        job = self._job
        assert job is not None
        try:
            self._step(job)
        except Exception as error:
            fail([job], error)
        except BaseException:
            fail(self.jobs(), WorkerDead())
            raise
        if job.future.done():
            self._job = self._deltas = None
        return bool(self.jobs())

    def _begin_next(self) -> bool:
        """Makes the next job that is neither cancelled nor late the running one; returns whether there is one."""
        while self._waiting:
            job = self._waiting.popleft()
            if begin(job):
                self._job = job
                return True
        return False

    def _step(self, job: Job) -> None:
        assert job.on_delta is not None
        if self._deltas is None:
            self._deltas = self.engine.stream(job)
        try:
            delta = next(self._deltas)
        except StopIteration as end:
            job.future.set_result(end.value)
            return
        if not job.on_delta(delta):
            self._deltas.close()
            job.future.set_result([])


def begin(job: Job) -> bool:
    """Marks a job as running; returns False for one that was cancelled or whose deadline has passed."""
    return job.future.set_running_or_notify_cancel() and not _is_late(job)


def fail(jobs: Sequence[Job], error: BaseException) -> None:
    """Completes the jobs that are not complete with an error."""
    for job in jobs:
        future = job.future
        if future.running() or (not future.done() and future.set_running_or_notify_cancel()):
            future.set_exception(error)


def _is_late(job: Job) -> bool:
    """Returns whether the deadline of a running job has passed; such a job fails."""
    if job.deadline.seconds_left() > 0:
        return False
    job.future.set_exception(DeadlineExceeded(job.deadline.timeout_ms))
    return True
