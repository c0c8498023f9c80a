"""The server as a Ray Serve application, on a cluster of this machine."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from compressor.errors import DependencyError
from serving import ray_cluster
from serving.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "examples" / "de-en"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "compressor", "serve", *map(str, arguments), "--engine", "ray"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    pytest.importorskip("ray", reason="needs Ray: pip install '.[ray]'")
    port, log = free_port(), tmp_path_factory.mktemp("ray") / "log"
    with log.open("w") as file:
        process = subprocess.Popen(command(BUNDLE, "--port", str(port)), stdout=file, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
            end = time.monotonic() + 120
            while "listening on" not in log.read_text():
                assert time.monotonic() < end and process.poll() is None, log.read_text()
                time.sleep(0.2)
            yield client
    finally:
        process.terminate()
        assert process.wait(60) == 0, log.read_text()


@pytest.mark.slow
def test_the_same_app_answers_from_a_replica(server: httpx.Client) -> None:
    answer = server.post("/v1/translate", json={"inputs": ["Das ist gut.", "Der Hund schläft."]})
    assert answer.status_code == 200 and len(answer.json()["outputs"]) == 2
    assert server.get("/readyz").status_code == 200
    assert server.post("/v1/translate", json={"inputs": []}).status_code == 422
    assert server.post("/translate", json={"q": "Gut.", "source": "de", "target": "en"}).json()["translatedText"]


@pytest.mark.slow
def test_requests_at_a_time_share_batches_in_the_replica(server: httpx.Client) -> None:
    body = {"inputs": "Der kleine Hund sieht den großen Baum."}
    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(lambda _: server.post("/v1/translate", json=body), range(200)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["outputs"][0]["text"] for answer in answers}) == 1
    metrics = server.get("/metrics").text
    total, batches = (
        float(line.split()[-1])
        for name in ("sum", "count")
        for line in metrics.splitlines()
        if line.startswith(f"compress_batch_size_{name}")
    )
    assert total >= 200 and total / batches > 1.5


@pytest.mark.slow
def test_a_bundle_that_cannot_be_loaded_ends_the_command(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install '.[ray]'")
    (tmp_path / "manifest.json").write_text("{}")
    done = subprocess.run(command(tmp_path, "--port", str(free_port())), capture_output=True, text=True, timeout=180)
    assert done.returncode == 5 and "not a bundle" in done.stderr, done.stderr


def test_without_ray_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DependencyError, match=r"Ray Serve is not installed.*\[ray\]"):
        ray_cluster.serve_on_ray(Settings(bundles=[BUNDLE], engine="ray"))


def test_workers_and_replicas_that_do_not_fit_are_refused() -> None:
    for wrong, message in (({"workers": 2}, "workers are for engine local"), ({"min_replicas": 9}, "cannot exceed")):
        with pytest.raises(ValueError, match=message):
            Settings(bundles=[BUNDLE], engine="ray", **wrong)  # type: ignore[arg-type]
