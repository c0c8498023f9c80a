"""A server of two processes with a real bundle: they share metrics and rates, and one that dies is replaced."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
KEY = {"name": "few", "sha256": hashlib.sha256(b"few").hexdigest(), "rate_limit": "3/hour"}
MAIN = {"name": "main", "sha256": hashlib.sha256(b"main").hexdigest()}
SERVE = """
import sys
from serving.settings import Settings
from serving.workers import serve_with_workers
if __name__ == "__main__":
    serve_with_workers(Settings.model_validate_json(sys.argv[1]))
"""


class Workers:
    """The supervisor, what it has logged, and requests on a connection of their own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.log: list[dict[str, Any]] = []
        self.url = ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(json.loads(line) if line.startswith("{") else {"message": line})
            if address := re.search(r"listening on (http://[\d.:]+)", line):
                self.url = address[1]

    def messages(self) -> list[str]:
        return [line["message"] for line in self.log]

    def request(self, method: str, path: str, key: str = "main", **fields: Any) -> httpx.Response:
        with httpx.Client(base_url=self.url, trust_env=False, timeout=20) as client:
            return client.request(method, path, headers={"authorization": f"Bearer {key}"}, **fields)

    def translate(self, key: str = "main") -> int:
        return self.request("POST", "/v1/translate", key, json={"inputs": "Der Hund sieht den Baum."}).status_code

    def pids(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [pid for pid in map(int, children) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def wait_for(condition: Callable[[], bool], workers: Workers, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end and workers.process.poll() is None, workers.messages()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    script = tmp_path_factory.mktemp("workers") / "serve.py"
    script.write_text(SERVE)
    values = {
        "bundles": [str(ROOT / "examples" / "de-en")], "port": 0, "workers": 2, "grace_seconds": 0.2,
        "log_format": "json",
        "keys": [KEY, MAIN],
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, str(script), json.dumps(values)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    started = Workers(process)
    try:
        wait_for(lambda: sum(text.startswith("loaded") for text in started.messages()) == 2, started)
        yield started
    finally:
        process.terminate()
        process.communicate(timeout=20)


def total(workers: Workers, name: str) -> float:
    text = workers.request("GET", "/metrics").text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(rf"{name}(\{{| )", line))


@pytest.mark.slow
def test_workers_share_metrics_rates_and_the_listener(workers: Workers) -> None:
    assert len(workers.pids()) == 2
    assert [workers.translate() for _ in range(10)] == [200] * 10
    assert total(workers, "compress_requests_total") == 10
    assert total(workers, "compress_model_info") == 1
    wait_for(lambda: total(workers, "compress_queue_requests") == 0, workers)
    assert [workers.translate("few") for _ in range(6)] == [200] * 3 + [429] * 3


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_its_counts_stay(workers: Workers) -> None:
    counted = total(workers, "compress_requests_total")
    victim, survivor = workers.pids()
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(workers.pids()) == 2 and victim not in workers.pids(), workers)
    assert survivor in workers.pids()
    assert [workers.translate() for _ in range(5)] == [200] * 5, "the other one answers meanwhile"
    wait_for(lambda: sum(text.startswith("loaded") for text in workers.messages()) == 3, workers)
    assert total(workers, "compress_requests_total") == counted + 5


@pytest.mark.slow
def test_sighup_reloads_every_worker_and_loses_no_request(workers: Workers) -> None:
    workers.process.send_signal(signal.SIGHUP)
    statuses = [workers.translate() for _ in range(20)]
    wait_for(lambda: sum(text.startswith("reloaded") for text in workers.messages()) == 2, workers)
    assert set(statuses) == {200}


@pytest.mark.slow
def test_sigterm_ends_all_without_a_traceback(workers: Workers) -> None:
    """It must be the last test with these processes."""
    pids = workers.pids()
    assert all(os.getpgid(pid) == pid for pid in pids), "a terminal's Ctrl-C reaches them through the supervisor, once"
    workers.process.send_signal(signal.SIGTERM)
    assert workers.process.wait(20) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not any("Traceback" in text for text in workers.messages())


@pytest.mark.slow
def test_a_damaged_bundle_ends_the_server_with_its_error(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("{}")
    command = [sys.executable, "-m", "compressor", "serve", str(tmp_path), "--port", "0", "--workers", "2"]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 5, done.stderr  # that of a BundleError
    assert "error: " in done.stderr.splitlines()[-1] and "format version" in done.stderr.splitlines()[-1]
