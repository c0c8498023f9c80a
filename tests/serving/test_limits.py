"""Connections that send slowly, too much, or nothing; bundles that are exchanged while requests run."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

BODY = b'{"inputs": "a"}'
HEAD = b"POST /v1/translate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


@contextmanager
def connected(running: Any) -> Iterator[socket.socket]:
    address = (running.client.base_url.host, running.client.base_url.port)
    with socket.create_connection(address, timeout=5) as raw:
        yield raw


def answer(raw: socket.socket) -> bytes:
    """All bytes until the server closes the connection."""
    received = b""
    with_end = iter(lambda: raw.recv(65536), b"")
    try:
        for part in with_end:
            received += part
    except ConnectionResetError:
        pass
    return received


@pytest.fixture(scope="module")
def strict(running_server: Any) -> Iterator[Any]:
    with running_server(receive_seconds=0.3, keep_alive_seconds=0.6, max_header_bytes=2048) as started:
        yield started


@pytest.fixture(autouse=True)
def _the_next_request_works(strict: Any) -> Iterator[None]:
    yield
    assert strict.client.get("/healthz").status_code == 200
    assert strict.translate("golden words").json()["outputs"][0]["text"] == "GOLDEN WORDS"
    assert strict.service.batcher.items == 0


def test_a_connection_without_a_request_is_closed(strict: Any) -> None:
    with connected(strict) as raw:
        assert answer(raw).startswith(b"HTTP/1.1 408 ")


def test_a_head_that_trickles_is_refused_in_time(strict: Any) -> None:
    with connected(strict) as raw:
        started = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - started < 5:
                raw.sendall(b"G")
                time.sleep(0.05)
        assert time.monotonic() - started < 3


def test_a_body_that_does_not_arrive_is_a_408(strict: Any) -> None:
    with connected(strict) as raw:
        raw.sendall(HEAD % len(BODY) + BODY[:5])
        received = answer(raw)
    assert received.startswith(b"HTTP/1.1 408 ") and b'"error_type":"request_timeout"' in received
    assert b"x-request-id" in received.lower()


def test_a_second_head_that_does_not_arrive_is_refused(strict: Any) -> None:
    with connected(strict) as raw:
        raw.sendall(HEAD % len(BODY) + BODY)
        assert raw.recv(65536).startswith(b"HTTP/1.1 200 ")
        raw.sendall(b"GET /hea")
        assert b" 408 " in answer(raw)


def test_a_connection_that_is_idle_after_an_answer_is_closed(strict: Any) -> None:
    with connected(strict) as raw:
        raw.sendall(HEAD % len(BODY) + BODY)
        assert answer(raw).startswith(b"HTTP/1.1 200 ")


def test_a_head_over_the_limit_is_a_431(strict: Any) -> None:
    with connected(strict) as raw:
        raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 4096)
        assert answer(raw).startswith(b"HTTP/1.1 431 ")


def test_a_long_inference_is_not_a_slow_request(strict: Any) -> None:
    thread = threading.Timer(0.8, strict.engine.release.set)
    thread.start()
    with connected(strict) as raw:
        body = b'{"inputs": "hold"}'
        raw.sendall(HEAD % len(body) + body)
        assert raw.recv(65536).startswith(b"HTTP/1.1 200 ")
    thread.join()


def test_a_client_that_leaves_in_its_body_is_no_error(strict: Any, caplog: pytest.LogCaptureFixture) -> None:
    with connected(strict) as raw:
        raw.sendall(HEAD % len(BODY) + BODY[:5])
        time.sleep(0.05)
    time.sleep(0.1)
    assert not [record for record in caplog.records if record.exc_info]


def test_hundreds_of_idle_connections_leave_room_for_requests(strict: Any) -> None:
    address = (strict.client.base_url.host, strict.client.base_url.port)
    idle = [socket.create_connection(address) for _ in range(300)]
    assert strict.translate("a").status_code == 200
    for raw in idle:
        raw.close()


def test_bundles_are_exchanged_without_losing_a_request(start: Any, make_engine: Any, wait_until: Any) -> None:
    """SIGHUP in the process of the server calls _start_reload."""
    old, new, broken = make_engine(), make_engine(), [False]
    engines = iter([old, new])

    def load(*_: Any) -> Any:
        if broken[0]:
            raise RuntimeError("damaged")
        return next(engines)

    running = start({"echo": old}, load=load)
    thread = running.background("hold")
    queued = running.background("waits")
    loop = running.server.servers[0].get_loop()
    loop.call_soon_threadsafe(running.server._start_reload)
    old.release.set()
    wait_until(lambda: running.service.models["echo"].engine is new)
    thread.join()
    queued.join()
    assert old.seen == ["1", "hold", "waits"]
    assert running.translate("b").status_code == 200 and new.seen == ["1", "b"]
    broken[0] = True
    loop.call_soon_threadsafe(running.server._start_reload)
    wait_until(lambda: not running.service._reloading)
    assert running.translate("c").status_code == 200 and new.seen[-1] == "c"
