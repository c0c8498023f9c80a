"""Starts a server as a process of its own and stops it again."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

from compressor.child_process import child_environment
from compressor.errors import CompressError

STOP_SECONDS = 60.0
_ADDRESS = re.compile(r"listening on (http://[^\s\"]+)")
_OPENER = build_opener(ProxyHandler({}))  # a proxy of the environment is not on the way to this machine


class Launched:
    """A server's process, its URL and its log."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.log: list[str] = []
        self.url = ""

    def stop(self) -> int:
        """Sends SIGTERM and returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def python_module(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of this environment."""
    return [sys.executable, "-m", module, *arguments]


@contextlib.contextmanager
def launched(
    command: Sequence[str],
    *,
    url: str = "",
    environment: Mapping[str, str] | None = None,
    ready: str = "/readyz",
    seconds: float = 120.0,
) -> Iterator[Launched]:
    """Runs a command that serves.

    Args:
        command: Program and arguments.
        url: Where it listens, if it does not say so on standard error.
        environment: Variables that are set for it.
        ready: Path that answers 200 once the server is ready.
        seconds: Longest wait for that.

    Raises:
        CompressError: the process ends before it is ready, or is not in time.
    """
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=child_environment(**(environment or {})),
    )
    server = Launched(process)
    server.url = url
    reader = threading.Thread(target=_read, args=(server,), daemon=True)
    reader.start()
    try:
        end = time.monotonic() + seconds
        while not (server.url and _answers(server.url + ready)):
            if process.poll() is not None or time.monotonic() > end:
                reader.join(1)
                raise CompressError(f"{_name(command)} did not start: {' '.join(server.log[-1:]) or 'no message'}")
            time.sleep(0.05)
        yield server
    finally:
        server.stop()
        reader.join(1)
        if process.stderr is not None:
            process.stderr.close()


def _name(command: Sequence[str]) -> str:
    """The module that a command runs, or its program."""
    return command[2] if command[1:2] == ["-m"] else Path(command[0]).name


def _read(server: Launched) -> None:
    """Reads the log to its end, so that the process never waits for a reader."""
    assert server.process.stderr is not None
    for line in server.process.stderr:
        if not server.url and (address := _ADDRESS.search(line)):
            server.url = address[1]
        server.log = [*server.log[-99:], line.rstrip("\n")]


def _answers(url: str) -> bool:
    try:
        with _OPENER.open(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False
