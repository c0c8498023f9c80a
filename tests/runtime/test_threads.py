"""Thread counts follow the machine and the container's quota."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from compressor.runtime.threads import available_cpus, choose_threads


@pytest.mark.parametrize(
    ("content", "most"),
    [("50000 100000", 1), ("150000 100000", 2), ("max 100000", 10_000), ("", 10_000), (None, 10_000)],
)
def test_container_quota_limits_available_cpus(
    content: str | None, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)), raising=False)
    path = tmp_path / "cpu.max"
    if content is not None:
        path.write_text(content)
    assert available_cpus(path) == min(6, most)


@pytest.mark.parametrize(
    ("intra", "inter", "chosen"),
    [
        (None, None, (1, 6)),  # a batch for every processor
        (None, 1, (0, 1)),  # the whole machine for one batch: ONNX Runtime's own choice
        (None, 2, (3, 2)),
        (2, None, (2, 3)),
        (4, None, (4, 1)),
        (6, 1, (6, 1)),
        (1, 1, (1, 1)),
    ],
)
def test_unset_thread_counts_are_chosen(
    intra: int | None, inter: int | None, chosen: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert choose_threads(intra, inter, 6) == chosen
    assert choose_threads(None, 1, 4) == (4, 1)  # in a container that has a part of the machine


def test_more_threads_than_processors_log_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert (choose_threads(3, 1, 4), choose_threads(2, 2, 4), caplog.messages) == ((3, 1), (2, 2), [])
        assert choose_threads(8, None, 4) == (8, 1)
        assert choose_threads(2, 4, 4) == (2, 4)
    assert caplog.messages == ["8 threads on 4 processors wait for one another: give fewer"] * 2
