"""The batcher alone: order, admission, deadlines, cancellation, failures and its end, without HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Any

import pytest

from compressor.runtime.sources import Source
from serving.batcher import TOGETHER, Batcher
from serving.jobs import Deadline, DeadlineExceeded, Draining, Job, JobOptions, QueueFull, WorkerDead


class RecordingEngine:
    """Returns the source as the output and records the batches that it ran."""

    def __init__(self, fail: BaseException | None = None) -> None:
        self.batches: list[list[int]] = []
        self.may_run = threading.Event()
        self.fail = fail

    def search(self, jobs: Any) -> list[list[int]]:
        self.batches.append([job.source.token_ids[0] for job in jobs])
        assert self.may_run.wait(10)
        if self.fail is not None:
            raise self.fail
        return [job.source.token_ids for job in jobs]

    def stream(self, job: Any) -> Iterator[str]:
        self.batches.append(job.source.token_ids)
        yield from "abc"


def make_job(token: int, timeout_ms: int = 60_000, on_delta: Callable[[str], bool] | None = None) -> Job:
    return Job(Source([token], False), JobOptions(1, 4), Deadline.after(timeout_ms), on_delta)


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    batcher = Batcher(capacity=4)
    yield batcher
    batcher.close()


def start_and_hold(batcher: Batcher, engine: Any, wait_until: Any) -> Job:
    """Occupies the inference thread with one job until the engine may run."""
    job = make_job(0)
    batcher.submit(engine, [job])
    wait_until(lambda: engine.batches == [[0]])
    return job


def test_jobs_submitted_together_run_together_in_order(batcher: Batcher, wait_until: Any) -> None:
    engine: Any = RecordingEngine()
    start_and_hold(batcher, engine, wait_until)
    first, second = [make_job(1), make_job(2)], [make_job(3)]
    batcher.submit(engine, first)
    batcher.submit(engine, second)
    engine.may_run.set()
    assert [job.future.result(5) for job in [*first, *second]] == [[1], [2], [3]]
    assert engine.batches == [[0], [1, 2], [3]]
    assert batcher.items == 0


def test_long_requests_take_turns(wait_until: Any) -> None:
    engine: Any = RecordingEngine()
    roomy = Batcher(capacity=1000)
    start_and_hold(roomy, engine, wait_until)
    long = [make_job(token) for token in range(TOGETHER + 6)]
    short = make_job(500)
    roomy.submit(engine, long)
    roomy.submit(engine, [short])
    engine.may_run.set()
    assert [job.future.result(5) for job in [*long, short]] == [[token] for token in range(TOGETHER + 6)] + [[500]]
    assert engine.batches == [[0], list(range(TOGETHER)), [500], list(range(TOGETHER, TOGETHER + 6))]
    roomy.close()


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


def test_an_exception_fails_its_batch_and_the_next_runs(batcher: Batcher) -> None:
    broken, sound = RecordingEngine(ValueError("broken")), RecordingEngine()
    broken.may_run.set()
    sound.may_run.set()
    failing, working = [make_job(1), make_job(2)], make_job(3)
    batcher.submit(broken, failing)  # type: ignore[arg-type]
    batcher.submit(sound, [working])  # type: ignore[arg-type]
    assert [str(job.future.exception(5)) for job in failing] == ["broken", "broken"]
    assert working.future.result(5) == [3]


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
    assert [job.future.result(5) for job in jobs] == [[], []]
    assert (all_pieces, two_pieces) == (["a", "b", "c"], ["a", "b"])
    assert engine.batches == [[1], [2]]


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
