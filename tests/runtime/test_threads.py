"""Threads are as many as the machine and its container allow."""

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
def test_a_containers_quota_counts(
    content: str | None, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)), raising=False)
    path = tmp_path / "cpu.max"
    if content is not None:
        path.write_text(content)
    assert available_cpus(path) == min(6, most)


def test_more_threads_than_processors_are_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    with caplog.at_level(logging.WARNING):
        assert (choose_threads(None, 4), choose_threads(3, 4), caplog.messages) == (4, 3, [])
        assert choose_threads(None, 6) == 0
        assert choose_threads(8, 4) == 8
    assert caplog.messages == ["8 threads on 4 processors wait for one another: give 4 or fewer"]
