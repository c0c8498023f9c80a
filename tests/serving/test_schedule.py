"""Which jobs run next: budget, lengths, fairness between requests, and turns of streams. No thread runs."""

from __future__ import annotations

import random
from typing import Any

import pytest

from compressor.runtime.sources import Source
from serving.jobs import Deadline, DeadlineExceeded, Job, JobOptions
from serving.schedule import Schedule
from serving.turns import JobBatch, JobStream

ENGINE: Any = object()


def jobs_of(lengths: list[int], *, timeout_ms: int = 60_000, stream: bool = False, **options: Any) -> list[Job]:
    """Returns the jobs of one request."""
    search = JobOptions(**{"num_beams": 1, "max_new_tokens": 4, **options})
    deadline, on_delta = Deadline.after(timeout_ms), (lambda _: True) if stream else None
    return [Job(Source([7] * length, False), search, deadline, on_delta) for length in lengths]


def batches_of(schedule: Schedule) -> list[list[Job]]:
    batches = []
    while isinstance(turn := schedule.next(), JobBatch):
        batches.append(list(turn.jobs))
    return batches


def scheduled(*requests: list[Job], batch_tokens: int = 100) -> Schedule:
    schedule = Schedule(batch_tokens)
    for jobs in requests:
        schedule.add(ENGINE, jobs)
    return schedule


def test_every_job_runs_once_within_the_budget_and_its_request_soon() -> None:
    draw = random.Random(1)
    requests = [jobs_of([draw.randint(1, 60) for _ in range(draw.randint(1, 12))]) for _ in range(50)]
    batches = batches_of(scheduled(*requests))
    ran = [id(job) for batch in batches for job in batch]
    assert sorted(ran) == sorted(id(job) for jobs in requests for job in jobs)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(len(job.source.token_ids) for job in batch) <= 100


def test_a_batch_holds_similar_lengths() -> None:
    lengths = [5, 50, 5, 48, 5, 5, 45, 5, 47, 5]
    batches = batches_of(scheduled(*(jobs_of([length]) for length in lengths), batch_tokens=110))
    assert [[len(job.source.token_ids) for job in batch] for batch in batches] == [[5] * 6, [50, 48], [45, 47]]


@pytest.mark.parametrize("length", [1, 10, 40, 99, 500])
def test_one_text_waits_for_one_batch_of_a_long_request(length: int) -> None:
    long, single = jobs_of([10] * 64), jobs_of([length])
    batches = batches_of(scheduled(long, single))
    assert single[0] in batches[0] + batches[1]
    assert sum(map(len, batches)) == 65


def test_what_comes_later_waits_for_no_second_batch_of_a_long_request() -> None:
    long, single = jobs_of([10] * 64), jobs_of([90])
    schedule = scheduled(long)
    schedule.next()
    schedule.add(ENGINE, single)
    assert single[0] in [job for batch in batches_of(schedule)[:2] for job in batch]


SHARED = [
    ({"max_new_tokens": 4}, {"max_new_tokens": 9}, True),
    ({"length_penalty": 1.0}, {"length_penalty": 2.0}, True),
    ({"min_new_tokens": 1}, {}, True),
    ({"num_beams": 2}, {"num_beams": 4}, False),
    ({"no_repeat_ngram_size": 2}, {"no_repeat_ngram_size": 3}, False),
]


@pytest.mark.parametrize(("first", "second", "together"), SHARED)
def test_only_beams_and_ngram_rules_part_a_batch(first: Any, second: Any, together: bool) -> None:
    batches = batches_of(scheduled(jobs_of([3], **first), jobs_of([3], **second)))
    assert [len(batch) for batch in batches] == ([2] if together else [1, 1])


def test_engines_have_batches_of_their_own() -> None:
    schedule = Schedule(100)
    engines: list[Any] = [object(), object()]
    for engine in engines * 2:
        schedule.add(engine, jobs_of([3]))
    turns = [schedule.next(), schedule.next()]
    assert [(turn.engine, len(turn.jobs)) for turn in turns if isinstance(turn, JobBatch)] == [
        (engines[0], 2),
        (engines[1], 2),
    ]
    assert not schedule


@pytest.mark.parametrize(("jobs", "sizes"), [(80, [20, 20, 20, 20]), (20, [16, 4])])
def test_idle_threads_share_what_waits_if_it_is_much(jobs: int, sizes: list[int]) -> None:
    schedule = scheduled(jobs_of([1] * jobs))
    turns = [schedule.next(threads) for threads in (4, 3, 2, 1)]
    assert [len(turn.jobs) for turn in turns if isinstance(turn, JobBatch)] == sizes


def test_cancelled_and_late_jobs_are_not_scheduled() -> None:
    gone, late, other = jobs_of([1, 1]), jobs_of([1], timeout_ms=0), jobs_of([1])
    for job in gone:
        job.future.cancel()
    schedule = scheduled(gone, late, other)
    assert batches_of(schedule) == [other]
    assert isinstance(late[0].future.exception(0), DeadlineExceeded)
    assert not schedule and schedule.next() is None


def test_each_stream_has_one_turn_between_two_batches() -> None:
    streams = [jobs_of([1], stream=True) for _ in range(2)]
    schedule = scheduled(jobs_of([60] * 3), *streams)
    order = []
    for _ in range(9):
        turn = schedule.next()
        assert turn is not None
        order.append("batch" if isinstance(turn, JobBatch) else f"stream {streams.index(turn.jobs())}")
        if isinstance(turn, JobStream):
            schedule.put_back(turn)
    both = ["stream 0", "stream 1"]
    assert order == ["batch", *both, "batch", *both, "batch", *both]


def test_clear_returns_all_that_waits() -> None:
    requests = [jobs_of([1, 2]), jobs_of([3]), jobs_of([4], stream=True)]
    schedule = scheduled(*requests)
    assert schedule.clear() == [job for jobs in requests for job in jobs]
    assert not schedule
