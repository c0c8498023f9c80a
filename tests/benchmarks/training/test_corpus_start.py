"""The start of a run, measured in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.training.corpus_start import corpus_start, tree_mb
from compressor.errors import CompressError

CHILD = "x = bytearray(60_000_000); import time; time.sleep(60)"
PARENT = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {CHILD!r}]).wait()"


def test_memory_is_that_of_a_process_and_its_children() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT])
    try:
        deadline = time.monotonic() + 30
        while tree_mb(parent.pid) < 60 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert 60 < tree_mb(parent.pid) < 200
        children = (Path("/proc") / str(parent.pid) / "task" / str(parent.pid) / "children").read_text().split()
        assert tree_mb(int(children[0])) < tree_mb(parent.pid)
    finally:
        for child in children:
            os.kill(int(child), 9)
        parent.wait()
    assert tree_mb(parent.pid) == 0.0


@pytest.mark.slow
def test_the_second_start_reads_what_the_first_one_made(tiny_recipe: Path) -> None:
    table = corpus_start(tiny_recipe, commands=["train"])
    assert [(row["command"], row["start"]) for row in table["rows"]] == [("train", "first"), ("train", "again")]
    assert {row["examples"] for row in table["rows"]} == {212}
    assert all(row["seconds"] > 0 and row["peak_mb"] > 100 for row in table["rows"])
    with pytest.raises(CompressError, match="exit code 2"):
        corpus_start(tiny_recipe, ["data.train=3"], commands=["train"])
