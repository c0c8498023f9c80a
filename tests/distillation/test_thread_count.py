"""Threads leave the processors that other work uses."""

from __future__ import annotations

import pytest

from compressor.distillation.thread_count import choose_thread_count


@pytest.mark.parametrize(
    ("load", "processors", "machine", "count"),
    [
        (0.0, 2, 2, 2),
        (0.35, 2, 2, 2),  # this program's own start
        (0.8, 2, 2, 1),
        (12.0, 2, 2, 1),
        (1.0, 16, 16, 15),
        (3.2, 16, 16, 13),
        (8.0, 4, 16, 2),  # a quarter of the machine: a quarter of its load
        (5.0, 1, 1, 1),
    ],
)
def test_as_many_threads_as_processors_without_other_work(
    load: float, processors: int, machine: int, count: int
) -> None:
    choice = choose_thread_count(None, load=load, processors=processors, machine=machine, environment={})
    assert choice.threads == count
    assert f"{load:.1f}" in choice.reason


def test_what_is_asked_for_is_taken() -> None:
    busy = {"load": 9.0, "processors": 2, "machine": 2}
    assert choose_thread_count(2, **busy, environment={"OMP_NUM_THREADS": "1"}) == (2, "training.threads")
    assert choose_thread_count(None, **busy, environment={"OMP_NUM_THREADS": "2"}) == (2, "OMP_NUM_THREADS")
    assert choose_thread_count(None, **busy, environment={"OMP_NUM_THREADS": "4,2"}).threads == 1
    assert choose_thread_count(None).threads >= 1
