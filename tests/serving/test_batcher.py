"""The batcher alone: threads, admission, deadlines, cancellation, failures and its end, without HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Any

import pytest

from compressor.runtime.sources import Source
from compressor.runtime.streaming import Deltas
from serving.batcher import Batcher
from serving.jobs import Deadline, DeadlineExceeded, Draining, Job, JobOptions, QueueFull, WorkerDead
from serving.turns import BatchRecord


class RecordingEngine:
    """Returns the source as the output and records the batches that it ran; a batch with the token ``bad`` fails."""

    def __init__(self, fail: BaseException | None = None, bad: int | None = None) -> None:
        self.batches: list[list[int]] = []
        self.may_run = threading.Event()
        self.fail = fail
        self.bad = bad

    def search(self, jobs: Any) -> list[list[int]]:
        batch = [job.source.token_ids[0] for job in jobs]
        self.batches.append(batch)
        assert self.may_run.wait(10)
        if self.fail is not None and (self.bad is None or self.bad in batch):
            raise self.fail
        return [job.source.token_ids for job in jobs]

    def stream(self, job: Any) -> Deltas:
        self.batches.append(job.source.token_ids)
        yield from "abc"
        return [job.source.token_ids[0], 9]


def make_job(token: int, timeout_ms: int = 60_000, on_delta: Callable[[str], bool] | None = None) -> Job:
    return Job(Source([token], False), JobOptions(1, 4), Deadline.after(timeout_ms), on_delta)


def make_batcher(**limits: Any) -> Batcher:
    return Batcher(**{"queue_items": 4, "queue_tokens": 1000, "batch_tokens": 100, **limits})


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    batcher = make_batcher()
    yield batcher
    batcher.close()


def start_and_hold(batcher: Batcher, engine: Any, wait_until: Any) -> Job:
    """Occupies the inference thread with one job until the engine may run."""
    job = make_job(0)
    batcher.submit(engine, [job])
    wait_until(lambda: engine.batches == [[0]])
    return job


def test_what_waits_runs_together(batcher: Batcher, wait_until: Any) -> None:
    engine: Any = RecordingEngine()
    start_and_hold(batcher, engine, wait_until)
    first, second = [make_job(1), make_job(2)], [make_job(3)]
    batcher.submit(engine, first)
    batcher.submit(engine, second)
    engine.may_run.set()
    assert [job.future.result(5) for job in [*first, *second]] == [[1], [2], [3]]
    assert engine.batches == [[0], [1, 3, 2]]
    wait_until(lambda: (batcher.items, batcher.tokens) == (0, 0))


def test_as_many_batches_run_at_a_time_as_there_are_threads(wait_until: Any) -> None:
    engine: Any = RecordingEngine()
    pair = make_batcher(threads=2)
    jobs = [start_and_hold(pair, engine, wait_until), make_job(1), make_job(2)]
    pair.submit(engine, jobs[1:])
    wait_until(lambda: len(engine.batches) == 2)
    assert pair.busy_seconds() > 0
    engine.may_run.set()
    assert [job.future.result(5) for job in jobs] == [[0], [1], [2]]
    pair.close()


def test_the_queue_is_bounded_in_tokens_but_an_empty_one_takes_any_request(wait_until: Any) -> None:
    engine: Any = RecordingEngine()
    narrow = make_batcher(queue_tokens=2)
    start_and_hold(narrow, engine, wait_until)
    with pytest.raises(QueueFull, match="1 tokens wait, 2 more exceed 2"):
        narrow.submit(engine, [make_job(1), make_job(2)])
    engine.may_run.set()
    wait_until(lambda: narrow.tokens == 0)
    long = replace(make_job(0), source=Source([5, 6, 7], False))
    narrow.submit(engine, [long])
    assert long.future.result(5) == [5, 6, 7]
    narrow.close()


def test_only_the_places_of_jobs_count(batcher: Batcher, wait_until: Any) -> None:
    engine: Any = RecordingEngine()
    start_and_hold(batcher, engine, wait_until)
    sentences = [*(replace(make_job(token), places=0) for token in range(9)), make_job(9)]
    batcher.submit(engine, sentences)
    batcher.submit(engine, [])
    assert batcher.items == 2
    engine.may_run.set()
    assert [job.future.result(5) for job in sentences] == [[token] for token in range(10)]
    wait_until(lambda: batcher.items == 0)


def test_admission_is_all_or_nothing(batcher: Batcher, wait_until: Any) -> None:
    engine: Any = RecordingEngine()
    start_and_hold(batcher, engine, wait_until)
    with pytest.raises(QueueFull, match="1 texts wait, 4 more exceed 4"):
        batcher.submit(engine, [make_job(token) for token in range(1, 5)])
    assert batcher.items == 1
    batcher.submit(engine, [make_job(token) for token in range(1, 4)])
    engine.may_run.set()


def test_a_cancelled_job_frees_its_place_and_never_runs(batcher: Batcher, wait_until: Any) -> None:
    engine: Any = RecordingEngine()
    running = start_and_hold(batcher, engine, wait_until)
    cancelled, other = make_job(1), make_job(2)
    batcher.submit(engine, [cancelled, other])
    assert not running.future.cancel()
    assert cancelled.future.cancel()
    assert batcher.items == 2
    engine.may_run.set()
    assert other.future.result(5) == [2]
    assert engine.batches == [[0], [2]]


def test_a_job_past_its_deadline_never_runs(batcher: Batcher) -> None:
    engine: Any = RecordingEngine()
    engine.may_run.set()
    late, other = make_job(1, 0), make_job(2)
    batcher.submit(engine, [late, other])
    with pytest.raises(DeadlineExceeded, match="within 0 ms"):
        late.future.result(5)
    assert other.future.result(5) == [2]
    assert engine.batches == [[2]]


def test_after_an_exception_each_job_runs_alone_once_and_only_the_bad_one_fails(
    batcher: Batcher, wait_until: Any
) -> None:
    engine: Any = RecordingEngine(ValueError("broken"), bad=2)
    start_and_hold(batcher, engine, wait_until)
    jobs = [make_job(token) for token in (1, 2, 3)]
    for job in jobs:
        batcher.submit(engine, [job])
    engine.may_run.set()
    assert [jobs[0].future.result(5), jobs[2].future.result(5)] == [[1], [3]]
    assert str(jobs[1].future.exception(5)) == "broken"
    assert engine.batches == [[0], [1, 2, 3], [1], [2], [3]]


def test_an_engine_that_always_fails_fails_its_jobs_and_the_next_works(batcher: Batcher) -> None:
    broken, sound = RecordingEngine(ValueError("broken")), RecordingEngine()
    broken.may_run.set()
    sound.may_run.set()
    failing, working = [make_job(1), make_job(2)], make_job(3)
    batcher.submit(broken, failing)  # type: ignore[arg-type]
    batcher.submit(sound, [working])  # type: ignore[arg-type]
    assert [str(job.future.exception(5)) for job in failing] == ["broken", "broken"]
    assert working.future.result(5) == [3]


def test_a_batch_that_does_not_end_does_not_keep_the_server(wait_until: Any, caplog: pytest.LogCaptureFixture) -> None:
    engine: Any = RecordingEngine()
    stuck = make_batcher()
    start_and_hold(stuck, engine, wait_until)
    stuck.close(seconds=0.1)
    assert "inference-0 still at work after 0.1 s" in caplog.text
    engine.may_run.set()
    stuck.close()


def test_what_has_run_is_reported(wait_until: Any) -> None:
    records: list[BatchRecord] = []
    engine: Any = RecordingEngine()
    reporting = make_batcher(on_batch=records.append)
    start_and_hold(reporting, engine, wait_until)
    reporting.submit(engine, [make_job(1), replace(make_job(2), source=Source([2, 3, 4], False))])
    engine.may_run.set()
    wait_until(lambda: len(records) == 2)
    assert [(record.engine, len(record.waits), record.tokens) for record in records] == [(engine, 1, 1), (engine, 2, 6)]
    assert min(records[1].waits) >= 0 and records[0].seconds >= 0
    reporting.close()


def test_a_streamed_job_hands_out_pieces_until_no_more_are_wanted(batcher: Batcher) -> None:
    engine: Any = RecordingEngine()
    all_pieces: list[str] = []
    two_pieces: list[str] = []

    def take_two(delta: str) -> bool:
        two_pieces.append(delta)
        return len(two_pieces) < 2

    jobs = [
        make_job(1, on_delta=lambda delta: all_pieces.append(delta) is None),
        make_job(2, on_delta=take_two),
    ]
    batcher.submit(engine, jobs)
    assert [job.future.result(5) for job in jobs] == [[1, 9], []]
    assert (all_pieces, two_pieces) == (["a", "b", "c"], ["a", "b"])
    assert engine.batches == [[1], [2]]


def test_streams_take_turns_a_piece_at_a_time_and_the_jobs_of_one_follow_each_other(
    batcher: Batcher, wait_until: Any
) -> None:
    engine: Any = RecordingEngine()
    start_and_hold(batcher, engine, wait_until)
    pieces: list[str] = []

    def stream(name: str) -> Job:
        return make_job(1, on_delta=lambda delta: pieces.append(name + delta) is None)

    batcher.submit(engine, [stream("x"), stream("y")])
    batcher.submit(engine, [stream("z")])
    engine.may_run.set()
    wait_until(lambda: batcher.items == 0)
    # Each has a turn for its end, too.
    assert pieces == ["xa", "za", "xb", "zb", "xc", "zc", "ya", "yb", "yc"]


def test_a_stream_that_fails_fails_alone_and_its_request_goes_on(batcher: Batcher) -> None:
    engine: Any = RecordingEngine()
    seen: list[str] = []

    def refuse(delta: str) -> bool:
        raise ValueError("broken")

    jobs = [make_job(1, on_delta=refuse), make_job(2, on_delta=lambda delta: seen.append(delta) is None)]
    batcher.submit(engine, jobs)
    assert str(jobs[0].future.exception(5)) == "broken"
    assert jobs[1].future.result(5) == [2, 9]
    assert seen == ["a", "b", "c"]


def test_a_dead_thread_fails_what_waits_and_admits_no_more(batcher: Batcher, wait_until: Any) -> None:
    engine: Any = RecordingEngine(SystemExit())
    running = start_and_hold(batcher, engine, wait_until)
    waiting = make_job(1)
    batcher.submit(engine, [waiting])
    engine.may_run.set()
    assert isinstance(running.future.exception(5), WorkerDead)
    assert isinstance(waiting.future.exception(5), WorkerDead)
    wait_until(lambda: batcher.is_dead and batcher.items == 0)
    with pytest.raises(WorkerDead):
        batcher.submit(engine, [make_job(2)])


def test_close_ends_a_stream_between_two_turns(wait_until: Any) -> None:
    engine: Any = RecordingEngine()
    closing = make_batcher()
    started, may_go_on = threading.Event(), threading.Event()

    def take(delta: str) -> bool:
        started.set()
        return may_go_on.wait(10)

    job = make_job(1, on_delta=take)
    closing.submit(engine, [job])
    assert started.wait(5)
    thread = threading.Thread(target=closing.close)
    thread.start()
    with pytest.raises(Draining):
        while True:
            closing.require_room(0)
    may_go_on.set()
    assert isinstance(job.future.exception(5), Draining)
    thread.join()


def test_close_drops_what_waits_and_finishes_what_runs(batcher: Batcher, wait_until: Any) -> None:
    engine: Any = RecordingEngine()
    running = start_and_hold(batcher, engine, wait_until)
    waiting = make_job(1)
    batcher.submit(engine, [waiting])
    closing = threading.Thread(target=batcher.close)
    closing.start()
    with pytest.raises(CancelledError):
        waiting.future.result(5)
    with pytest.raises(Draining):
        batcher.submit(engine, [make_job(2)])
    engine.may_run.set()
    closing.join()
    assert running.future.result(0) == [0]
    assert engine.batches == [[0]]
