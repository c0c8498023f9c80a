"""Faults that a server survives. After each it is healthy, answers as before, and has nothing in its queue.

These are the cases that need several requests at once or a client that misbehaves. Bodies and fields that are wrong are
in ``test_bad_input.py`` and ``test_native.py``, limits of real models and SIGTERM of a process in ``test_process.py``,
deadlines and failing engines in ``test_load.py`` and ``test_batcher.py``, overload measured for long in ``python -m
benchmarks overload`` and hours of load in ``python -m benchmarks soak``.
"""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.serving.client import Address
from benchmarks.serving.dialects import messages
from benchmarks.serving.loops import open_loop
from benchmarks.serving.paced import PacedEngine
from compressor.runtime.generator import Generator
from serving.models import BundleEngine

HEAD = b"POST /v1/translate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
GOLDEN = "golden words"


def queue_of(running: Any) -> float:
    """Texts in the queue, as /metrics says if it does."""
    lines = running.client.get("/metrics").text.splitlines()
    gauges = [float(line.split()[-1]) for line in lines if line.startswith("compress_queue_requests")]
    return max(sum(gauges), running.service.batcher.items)


def golden(running: Any) -> list[dict[str, Any]]:
    answer = running.translate(GOLDEN)
    assert answer.status_code == 200
    outputs: list[dict[str, Any]] = answer.json()["outputs"]
    return outputs


@pytest.fixture
def survives(start: Callable[..., Any], wait_until: Callable[..., None]) -> Iterator[Callable[..., Any]]:
    """Starts servers as ``start`` does, and checks each at the end of the test."""
    started: list[tuple[Any, list[dict[str, Any]]]] = []

    def begin(*arguments: Any, **settings: Any) -> Any:
        running = start(*arguments, **settings)
        started.append((running, golden(running)))
        return running

    yield begin
    assert started
    for running, before in started:
        wait_until(lambda running=running: running.client.get("/healthz").status_code == 200)
        wait_until(lambda running=running: queue_of(running) == 0)
        assert golden(running) == before
        wait_until(lambda running=running: queue_of(running) == 0)


def connect(running: Any, received: int | None = None) -> socket.socket:
    raw = socket.socket()
    if received is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, received)
    raw.settimeout(20)
    raw.connect((running.client.base_url.host, running.client.base_url.port))
    return raw


def post(raw: socket.socket, **fields: Any) -> None:
    body = json.dumps(fields).encode()
    raw.sendall(HEAD % len(body) + body)


def together(running: Any, texts: list[str], **fields: Any) -> list[httpx.Response]:
    """Sends a request for each text at the same time, and returns the answers in order."""

    def one(text: str) -> httpx.Response:
        with httpx.Client(base_url=running.client.base_url, trust_env=False, timeout=20) as client:
            return client.post("/v1/translate", json={"inputs": text, **fields})

    with ThreadPoolExecutor(len(texts)) as pool:
        return list(pool.map(one, texts))


def test_a_long_word_is_refused_or_answered_before_the_deadline(
    survives: Any, tiny_bundle: Path, make_engine: Any
) -> None:
    engine = BundleEngine(Generator.load(tiny_bundle, intra_threads=1))
    running = survives({"tiny": make_engine()}, load=lambda *_: engine)
    word = "Donaudampfschiff" * 6250  # 100,000 characters
    refused = running.translate(word)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/inputs/0")
    for truncation, statuses in (("longest_first", {200}), ("split", {200, 504})):
        answer = running.translate(word, truncation=truncation, timeout_ms=1000, parameters={"max_new_tokens": 4})
        assert answer.status_code in statuses


def test_one_bad_item_fails_its_own_request_alone(survives: Any, wait_until: Any) -> None:
    running = survives()
    holding = running.background("hold")
    texts = ["a", "b c", "boom", "d", "e f g"]
    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(together, running, texts)
        wait_until(lambda: running.service.batcher.items == 1 + len(texts))
        running.engine.release.set()
        statuses = [answer.status_code for answer in answers.result()]
        outputs = [answer.json()["outputs"][0]["text"] for answer in answers.result() if answer.status_code == 200]
    holding.join()
    assert statuses == [200, 200, 500, 200, 200]
    assert outputs == ["A", "B C", "D", "E F G"]


def test_a_client_that_goes_away_in_mid_batch_does_not_disturb_the_rest(
    survives: Any, make_engine: Any, wait_until: Any
) -> None:
    class Gated(make_engine):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.entered, self.gate = threading.Event(), threading.Event()

        def search(self, jobs: list[Any]) -> Any:
            if any("gate" in self.decode(job.source.token_ids).lower() for job in jobs):
                self.entered.set()
                self.gate.wait(10)
            return super().search(jobs)

    running = survives({"gated": Gated()})
    holding = running.background("hold")
    with connect(running) as leaving, ThreadPoolExecutor(1) as pool:
        post(leaving, inputs=["gate a", "gate b"])
        wait_until(lambda: running.service.batcher.items == 3)
        staying = pool.submit(running.translate, "c")
        wait_until(lambda: running.service.batcher.items == 4)
        running.engine.release.set()
        assert running.engine.entered.wait(5)
        leaving.close()
        running.engine.gate.set()
        assert staying.result().json()["outputs"][0]["text"] == "C"
    holding.join()


def test_all_that_waits_is_answered_when_the_engine_ends_its_thread(
    start: Any, make_engine: Any, wait_until: Any
) -> None:
    """The server cannot go on: its health check says so, and who runs it starts it anew."""

    class Deadly(make_engine):  # type: ignore[misc]
        def search(self, jobs: list[Any]) -> Any:
            if any("DEADLY" in self.decode(job.source.token_ids) for job in jobs):
                self.release.wait(10)
                raise SystemExit
            return super().search(jobs)

    running = start({"deadly": Deadly()})
    dying = running.background("deadly")
    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(together, running, ["a", "b", "c"])
        wait_until(lambda: running.service.batcher.items == 4)
        running.engine.release.set()
        statuses = [answer.status_code for answer in answers.result()]
    dying.join()
    assert statuses == [503] * 3
    assert running.client.get("/healthz").status_code == 503


def open_files(count: int) -> None:
    """Raises the soft limit of open files, for both ends of so many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"the limit of open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))


@pytest.mark.parametrize("count", [100, pytest.param(5000, marks=pytest.mark.slow)])
def test_idle_connections_and_slow_senders_do_not_hold_up_requests(survives: Any, wait_until: Any, count: int) -> None:
    open_files(2 * count + 200)
    running = survives()
    beginnings = (b"", b"POST /v1/tra", HEAD % 1000, HEAD % 1000 + b'{"inputs": "')
    raws = []
    try:
        for number in range(count):
            raws.append(connect(running))
            raws[-1].sendall(beginnings[number % len(beginnings)])
        assert [running.translate(text).status_code for text in "abc"] == [200] * 3
    finally:
        for raw in raws:
            raw.close()
    wait_until(lambda: len(running.server.server_state.connections) <= 1, 20)


def test_a_stream_whose_client_does_not_read_holds_up_nothing_and_ends_with_it(survives: Any, wait_until: Any) -> None:
    running = survives()
    for listener in running.server.servers[0].sockets:  # what it accepts has as little room
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    before = len(running.server.server_state.connections)
    with connect(running, received=4096) as raw:
        post(raw, inputs=["x" * 15_000] * 64, stream=True)
        assert raw.recv(12) == b"HTTP/1.1 200"
        assert running.translate("b").status_code == 200
        assert running.client.get("/readyz").status_code == 200
    wait_until(lambda: len(running.server.server_state.connections) <= before)


def test_a_client_that_reads_nothing_for_long_is_closed_and_its_work_dropped(survives: Any, wait_until: Any) -> None:
    running = survives(send_seconds=0.5)
    for listener in running.server.servers[0].sockets:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with connect(running, received=4096) as raw:
        post(raw, inputs=["x" * 15_000] * 32 + ["a slowly b", "never"], stream=True)
        assert raw.recv(12) == b"HTTP/1.1 200"
        wait_until(lambda: len(running.server.server_state.connections) <= 1, 10)  # while the client waits
    running.engine.release.set()
    wait_until(lambda: queue_of(running) == 0)
    assert "never" not in running.engine.seen


def test_a_stream_that_is_left_is_cancelled(survives: Any, wait_until: Any) -> None:
    running = survives()
    with connect(running) as raw:
        post(raw, inputs=["a slowly b", "never"], stream=True)
        assert raw.recv(12) == b"HTTP/1.1 200"
    wait_until(lambda: len(running.server.server_state.connections) <= 1)
    running.engine.release.set()
    wait_until(lambda: queue_of(running) == 0)
    assert "never" not in running.engine.seen


def test_under_overload_requests_are_answered_or_refused(survives: Any) -> None:
    """Ten times the capacity of the engine: what is over the queue's bound is a 429, and nothing else happens."""
    engine = PacedEngine(rate=50)
    engine.release = threading.Event()  # type: ignore[attr-defined]
    running = survives({"paced": engine}, queue_items=20, max_items=20)
    address = Address.of(str(running.client.base_url))
    texts = [f"Satz Nummer {number}." for number in range(50)]
    window = asyncio.run(open_loop(address, messages("native", address, texts), 500, 0.6))
    kinds = [outcome.kind for outcome in window.outcomes]
    assert set(kinds) == {"200", "429"}
    assert running.translate("danach").json()["outputs"][0]["text"] == "DANACH"


def test_sigterm_under_load_loses_no_admitted_request(start: Any, wait_until: Any) -> None:
    """Every text that ran was answered with it; clients see nothing but answers and closed connections."""
    leaving = start(grace_seconds=0.2)
    answered: list[str] = []
    refused: list[int] = []

    def client(number: int) -> None:
        with httpx.Client(base_url=leaving.client.base_url, trust_env=False, timeout=20) as own:
            for turn in range(100_000):
                try:
                    answer = own.post("/v1/translate", json={"inputs": f"c{number} t{turn}"})
                except httpx.TransportError:
                    return
                if answer.status_code == 200:
                    answered.append(answer.json()["outputs"][0]["text"].lower())
                else:
                    refused.append(answer.status_code)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(answered) > 20)
    leaving.server.handle_exit(signal.SIGTERM, None)
    for thread in threads:
        thread.join()
    assert sorted(answered) == sorted(leaving.engine.seen[1:])
    assert set(refused) <= {503}
