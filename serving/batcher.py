"""The queue in front of the inference threads. It takes jobs of all requests and completes their futures."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

from serving.jobs import Draining, Job, QueueFull, ServingEngine, WorkerDead
from serving.schedule import Schedule
from serving.turns import BatchRecord, JobBatch, JobStream, fail

_log = logging.getLogger("serving")

COLLECT_SECONDS = 0.005
"""Longest time that an idle thread waits for more jobs, beside a batch that runs or after one that has ended."""


class Batcher:
    """Runs jobs in a few threads: at once while all are idle, otherwise in the batches that ``Schedule`` makes.

    Beside a batch that runs, or has just ended, an idle thread collects half as many jobs as that has, for at most
    ``COLLECT_SECONDS``: the clients that it answers send their next texts one by one, and small batches cost more
    processor time than the wait saves.

    A job occupies the queue from its submission until its future is done. A job that is cancelled in the queue leaves
    it at once; one that is running leaves it when the inference has ended.

    Args:
        queue_items: Maximum number of texts in the queue.
        queue_tokens: Maximum number of source tokens in the queue. A request of more is admitted to an empty queue.
        batch_tokens: See ``Schedule``.
        threads: Batches that run at the same time.
        on_batch: Called in the inference thread after each batch.
    """

    def __init__(
        self,
        *,
        queue_items: int,
        queue_tokens: int,
        batch_tokens: int,
        threads: int = 1,
        on_batch: Callable[[BatchRecord], None] | None = None,
    ) -> None:
        self.queue_items, self.queue_tokens = queue_items, queue_tokens
        self._items = self._tokens = 0
        self._schedule = Schedule(batch_tokens)
        self._on_batch = on_batch
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._busy_since: list[float | None] = [None] * threads  # of each thread
        self._running = [0] * threads  # jobs in the batch of each thread
        self._last_jobs, self._last_end = 0, 0.0  # of the batch that ended last
        self._idle = 0
        self._closed = self._dead = False

    @property
    def items(self) -> int:
        """Texts that were admitted and are not done."""
        return self._items

    @property
    def tokens(self) -> int:
        """Source tokens of the sentences that were admitted and are not done."""
        return self._tokens

    @property
    def is_dead(self) -> bool:
        """Whether an inference thread ended although the batcher was not closed."""
        return self._dead

    def busy_seconds(self) -> float:
        """Returns for how long the oldest of the running batches has been running; 0 when idle."""
        since = [started for started in self._busy_since if started is not None]
        return time.monotonic() - min(since) if since else 0.0

    def require_room(self, texts: int, tokens: int = 0) -> None:
        """Raises the error that a submission of this size would raise now."""
        if self._closed:
            raise Draining
        if self._dead:
            raise WorkerDead
        if self._items + texts > self.queue_items:
            raise QueueFull(self._items, texts, self.queue_items)
        if self._tokens and self._tokens + tokens > self.queue_tokens:
            raise QueueFull(self._tokens, tokens, self.queue_tokens, "tokens")

    def submit(self, engine: ServingEngine, jobs: Sequence[Job]) -> None:
        """Admits all jobs or none.

        Args:
            engine: Runs the jobs.
            jobs: Jobs of one request, with the same options.

        Raises:
            QueueFull: there are fewer free places than the jobs occupy.
            Draining: the batcher is closed.
            WorkerDead: an inference thread has ended.
        """
        texts, tokens = sum(job.places for job in jobs), sum(len(job.source.token_ids) for job in jobs)
        with self._changed:
            self.require_room(texts, tokens)
            if not jobs:
                return
            self._items += texts
            self._tokens += tokens
            self._schedule.add(engine, jobs)
            self._start()
            self._changed.notify()
        for job in jobs:
            job.future.add_done_callback(partial(self._release, job.places, len(job.source.token_ids)))

    def close(self, seconds: float = 60.0) -> None:
        """Cancels the jobs in the queue and waits for the running batches, so long at most.

        A thread that still runs then does not keep the process alive.
        """
        end = time.monotonic() + seconds
        with self._changed:
            self._closed = True
            waiting = self._schedule.clear()
            self._changed.notify_all()
        for job in waiting:
            job.future.cancel()
        fail(waiting, Draining())  # streams between two turns
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        if running := [thread.name for thread in self._threads if thread.is_alive()]:
            _log.error("%s still at work after %g s: what it does is lost", ", ".join(running), seconds)

    def _start(self) -> None:
        """Starts the threads at the first submission."""
        if not self._threads:
            self._threads = [
                threading.Thread(target=self._work, args=(number,), name=f"inference-{number}", daemon=True)
                for number in range(len(self._busy_since))
            ]
            for thread in self._threads:
                thread.start()

    def _work(self, number: int) -> None:
        """Runs turns until the batcher is closed, or an exception such as SystemExit ends this thread."""
        try:
            while (turn := self._next(number)) is not None:
                self._busy_since[number] = time.monotonic()
                try:
                    again = turn.run()
                finally:
                    self._end_turn(number)
                self._after(turn, again)
        except BaseException:
            self._die()

    def _next(self, number: int) -> JobBatch | JobStream | None:
        """Waits for what thread ``number`` runs next; returns None once the batcher is closed or dead."""
        with self._changed:
            while True:
                self._idle += 1
                self._changed.wait_for(lambda: self._schedule or self._closed or self._dead)
                self._changed.wait_for(self._is_worth_a_batch, COLLECT_SECONDS)
                self._idle -= 1
                if self._closed or self._dead:
                    return None
                turn = self._schedule.next(threads=1 + self._idle)
                if isinstance(turn, JobBatch):
                    self._running[number] = len(turn.jobs)
                if self._schedule:
                    self._changed.notify()  # another thread takes the rest
                if turn is not None:
                    return turn

    def _is_worth_a_batch(self) -> bool:
        """Returns whether a batch of what waits may run now, beside those that run."""
        if self._closed or self._dead or self._schedule.streams:
            return True
        recent = self._last_jobs if time.monotonic() - self._last_end < COLLECT_SECONDS else 0
        return 2 * self._schedule.jobs >= max(*self._running, recent)

    def _end_turn(self, number: int) -> None:
        """Notes that thread ``number`` has ended its turn."""
        if self._running[number]:
            self._last_jobs, self._last_end = self._running[number], time.monotonic()
        self._busy_since[number], self._running[number] = None, 0

    def _after(self, turn: JobBatch | JobStream, again: bool) -> None:
        """Reports a batch; puts a stream back that needs another turn."""
        if isinstance(turn, JobBatch):
            if turn.record is not None and self._on_batch is not None:
                self._on_batch(turn.record)
        elif again:
            with self._changed:
                if not (self._closed or self._dead):
                    self._schedule.put_back(turn)  # for this thread's next turn, if no other comes first
                    return
            fail(turn.jobs(), Draining() if self._closed else WorkerDead())

    def _die(self) -> None:
        """Fails all jobs in the queue."""
        with self._changed:
            self._dead = True
            waiting = self._schedule.clear()
            self._changed.notify_all()
        _log.critical("an inference thread has ended; %d waiting sentences fail", len(waiting), exc_info=True)
        fail(waiting, WorkerDead())

    def _release(self, texts: int, tokens: int, _: Future[list[int]]) -> None:
        with self._changed:
            self._items -= texts
            self._tokens -= tokens
