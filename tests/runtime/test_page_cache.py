"""Released pages of mapped files leave memory, and are read again unchanged."""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path

import pytest

from compressor.runtime.page_cache import release_pages
from compressor.runtime.session import open_session

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")


def resident_kb(folder: Path) -> int:
    """Resident kilobytes of all mapped files in a folder, from the kernel's counters."""
    total, in_folder = 0, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        first = line.split(maxsplit=1)[0]
        if not first.endswith(":"):
            in_folder = f" {folder}/" in line
        elif in_folder and first == "Rss:":
            total += int(line.split()[1])
    return total


def test_released_pages_leave_memory_and_are_read_again(tmp_path: Path) -> None:
    content = os.urandom(1 << 20)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.bin").write_bytes(content)
    opened = [(tmp_path / name / "weights.bin").open("rb") for name in ("a", "b")]
    maps = [mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ) for file in opened]
    assert all(mapped[:] == content for mapped in maps)
    assert resident_kb(tmp_path / "a") == resident_kb(tmp_path / "b") == 1024
    release_pages(tmp_path / "a")
    assert resident_kb(tmp_path / "a") == 0
    assert resident_kb(tmp_path / "b") == 1024
    assert maps[0][:] == content
    for file, mapped in zip(opened, maps, strict=True):
        mapped.close()
        file.close()


def test_open_session_holds_no_pages_of_its_weights_file(tiny_bundle: Path) -> None:
    session = open_session(tiny_bundle / "fp32" / "generate.onnx")
    assert resident_kb(tiny_bundle.resolve() / "fp32") == 0
    assert "weights.bin" in Path("/proc/self/maps").read_text(encoding="utf-8")  # still mapped
    del session
