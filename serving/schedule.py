"""The jobs that wait, and which of them run next. It has no threads of its own.

Batches hold jobs of similar length, within a budget of tokens. Requests take turns: the request that has waited longest
since its last turn is always in the next batch.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from compressor.batching import bucket_by_length
from serving.jobs import Job, ServingEngine
from serving.turns import JobBatch, JobStream, begin

_WINDOW = 2
"""Batches' worth of tokens that a batch is chosen from: more makes the lengths of a batch more alike, and an uncommon
length wait longer."""

_FEWEST = 16
"""Jobs of a batch that are not shared between threads: smaller batches cost clearly more processor time a job."""


@dataclass
class _Request:
    """Jobs of one request that wait; a batch takes jobs of one ``kind``."""

    engine: ServingEngine
    jobs: deque[Job]

    def __post_init__(self) -> None:
        options = self.jobs[0].options
        self.kind = (self.engine, options.num_beams, options.no_repeat_ngram_size)

    def drop_ended(self) -> bool:
        """Drops first jobs that are cancelled or late; returns whether there are others."""
        while self.jobs and (self.jobs[0].future.done() or _fails_as_late(self.jobs[0])):
            self.jobs.popleft()
        return bool(self.jobs)


class Schedule:
    """Chooses batches, and lets streams take turns with them: between two batches each stream has one turn.

    Args:
        batch_tokens: Maximum number of source tokens in a batch, padding included; a longer source runs alone.
    """

    def __init__(self, batch_tokens: int) -> None:
        self.batch_tokens = batch_tokens
        self._requests: list[_Request] = []  # the first has waited longest since its last turn
        self._streams: deque[JobStream] = deque()
        self._stream_turns = 0

    def __bool__(self) -> bool:
        return bool(self._requests or self._streams)

    @property
    def jobs(self) -> int:
        """Jobs that wait for a batch."""
        return sum(len(request.jobs) for request in self._requests)

    @property
    def streams(self) -> int:
        """Streams that wait for a turn."""
        return len(self._streams)

    def add(self, engine: ServingEngine, jobs: Sequence[Job]) -> None:
        """Adds the jobs of one request, at least one, which have the same options."""
        if jobs[0].on_delta is not None:
            self._streams.append(JobStream(engine, jobs))
        else:
            self._requests.append(_Request(engine, deque(jobs)))

    def put_back(self, stream: JobStream) -> None:
        """Adds a stream that needs another turn."""
        self._streams.append(stream)

    def next(self, threads: int = 1) -> JobBatch | JobStream | None:
        """Returns what runs next; None if all that waited was cancelled or late.

        Args:
            threads: Idle threads, this one included, that share what waits, if it is much.
        """
        self._requests = [request for request in self._requests if request.drop_ended()]
        if self._streams and (self._stream_turns > 0 or not self._requests):
            self._stream_turns -= 1
            return self._streams.popleft()
        self._stream_turns = len(self._streams)
        return self._batch(threads) if self._requests else None

    def clear(self) -> list[Job]:
        """Removes and returns all jobs that are not complete."""
        waiting = [job for request in self._requests for job in request.jobs]
        waiting += [job for stream in self._streams for job in stream.jobs()]
        self._requests.clear()
        self._streams.clear()
        return waiting

    def _batch(self, threads: int) -> JobBatch | None:
        """Removes and returns the batch that holds the first job of the first request; None if all were cancelled."""
        engine, candidates = self._requests[0].engine, list(self._in_turn())
        if not candidates:
            return None
        lengths = [len(job.source.token_ids) for job in candidates]
        share = max(_FEWEST, math.ceil(len(candidates) / threads))
        rows = next(rows for rows in bucket_by_length(lengths, self.batch_tokens, share) if 0 in rows)
        jobs = [candidates[row] for row in sorted(rows)]
        self._remove(jobs)
        return JobBatch(engine, jobs)

    def _in_turn(self) -> Iterator[Job]:
        """Yields jobs that may share a batch with the first: the first of each request, then the second, and so on."""
        kind, room = self._requests[0].kind, _WINDOW * self.batch_tokens
        alike = [request.jobs for request in self._requests if request.kind == kind]
        for job in chain.from_iterable(zip_longest(*alike)):
            if job is not None and not job.future.done():
                yield job
                room -= min(len(job.source.token_ids), self.batch_tokens)  # one that runs alone leaves room for more
            if room <= 0:
                return

    def _remove(self, jobs: Sequence[Job]) -> None:
        """Removes jobs; the requests that they are of have had their turn and go behind the others."""
        chosen = {id(job) for job in jobs}
        passed_over: list[_Request] = []
        served: list[_Request] = []
        for request in self._requests:
            rest = deque(job for job in request.jobs if id(job) not in chosen)
            had_turn = len(rest) < len(request.jobs)
            request.jobs = rest
            if rest:
                (served if had_turn else passed_over).append(request)
        self._requests = passed_over + served


def _fails_as_late(job: Job) -> bool:
    return job.deadline.seconds_left() <= 0 and not begin(job)
