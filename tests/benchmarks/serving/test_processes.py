"""What is read of processes, with a process of a few lines that listens and starts another."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from benchmarks.serving.processes import listening_process, usage

LISTEN = """
import socket, subprocess, sys, threading
listener = socket.create_server(("127.0.0.1", 0))
listener.set_inheritable(True)
child = subprocess.Popen([sys.executable, "-c", "import sys; print(1, flush=True); sys.stdin.read()"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False)
child.stdout.readline()
threading.Thread(target=sys.stdin.read).start()
print(listener.getsockname()[1], child.pid, flush=True)
"""


@pytest.fixture
def listening() -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    with subprocess.Popen(
        [sys.executable, "-c", LISTEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port, child = map(int, process.stdout.readline().split())
        yield process, port, child
        process.kill()
    os.kill(child, 9)


def test_a_listening_process_and_its_children_are_read(listening: tuple[subprocess.Popen[str], int, int]) -> None:
    process, port, child = listening
    assert listening_process(port) == process.pid, "not the child that inherited the socket"
    tree, alone = usage(process.pid), usage(child)
    assert tree is not None and alone is not None
    assert (tree.threads, alone.threads) == (3, 1)
    assert tree.rss_mb > alone.rss_mb > 1
    assert tree.fds == sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in (process.pid, child))


def test_processor_time_is_that_of_this_process() -> None:
    sum(number * number for number in range(1_000_000))
    before, read = os.times(), usage(os.getpid())
    assert read is not None
    whole = before.user + before.system  # of this process alone; the kernel counts in ticks of 10 ms
    assert read.main_seconds + read.other_seconds >= whole - 0.02


def test_nothing_listens_there_and_no_such_process() -> None:
    assert listening_process(1) is None
    assert usage(2**22 + 1) is None
