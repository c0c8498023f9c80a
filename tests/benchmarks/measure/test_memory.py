"""Resident memory, where Linux can tell."""

from __future__ import annotations

import mmap
import sys

import pytest

from benchmarks.measure import memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the present resident set")


def test_the_peak_remembers_what_was_given_back_until_it_is_reset() -> None:
    assert memory.reset_peak()
    before = memory.peak_mb()
    block = mmap.mmap(-1, 80_000_000)  # not from malloc, which may keep what is freed
    for page in range(0, len(block), mmap.PAGESIZE):
        block[page] = 1
    held = memory.resident_mb()
    block.close()
    assert memory.peak_mb() - before == pytest.approx(80, abs=10)
    assert held - memory.resident_mb() == pytest.approx(80, abs=10)
    memory.reset_peak()
    assert memory.peak_mb() - before < 20


def test_without_a_proc_file_system_the_lifetime_peak_is_an_upper_bound(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    known = memory.resident_mb()
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "absent")
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "absent" / "clear")
    assert not memory.reset_peak()
    assert memory.peak_mb() > 0.9 * known
