"""Queue, deadlines, disconnects, failed inference, loading and shutdown of a server."""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from compressor.errors import BundleError, InputError
from serving.settings import Settings


def test_a_failed_inference_is_a_500_and_the_next_works(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    answer = server.translate("boom")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] in answer.json()["detail"]
    assert "broke" not in answer.text
    assert any(answer.headers["x-request-id"] in record.message and record.exc_info for record in caplog.records)
    assert server.translate("a").status_code == 200


@pytest.mark.parametrize("method", ["encode", "search"])
def test_an_input_error_of_the_engine_is_a_422(start: Any, make_engine: Any, method: str) -> None:
    class Picky(make_engine):  # type: ignore[misc]
        def encode(self, texts: list[str], truncation: str) -> Any:
            if method == "encode" and texts != ["1"]:
                raise InputError("text 1: no")
            return super().encode(texts, truncation)

        def search(self, jobs: list[Any]) -> Any:
            if method == "search" and self.seen == ["1"]:
                raise InputError("text 1: no")
            return super().search(jobs)

    answer = start({"picky": Picky()}).translate("a")
    assert (answer.status_code, answer.json()["detail"]) == (422, "text 1: no")


def test_inference_does_not_block_the_event_loop(start: Any) -> None:
    slow = start()
    thread = slow.background("hold")
    started = time.monotonic()
    assert slow.client.get("/healthz").status_code == 200
    assert slow.client.get("/readyz").status_code == 200
    assert time.monotonic() - started < 2
    slow.engine.release.set()
    thread.join()


def test_long_texts_are_encoded_off_the_event_loop(start: Any, make_engine: Any) -> None:
    encoding = threading.Event()

    class SlowToEncode(make_engine):  # type: ignore[misc]
        def encode(self, texts: list[str], truncation: str) -> Any:
            if len(texts[0]) > 10_000:
                encoding.set()
                self.release.wait(10)
            return super().encode(texts, truncation)

    slow = start({"slow": SlowToEncode()})
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(slow.translate("x" * 100_000)))
    thread.start()
    assert encoding.wait(5)
    assert slow.client.get("/healthz").status_code == 200
    assert slow.translate("short").status_code == 200
    slow.engine.release.set()
    thread.join()
    assert answers[0].json()["outputs"][0]["text"] == "X" * 100_000


def test_accepted_connections_have_tcp_nodelay(start: Any) -> None:
    """Without it a request on a kept-alive connection waits 40 ms for the client's delayed acknowledgement."""
    running = start()
    assert running.client.get("/healthz").status_code == 200
    connections = [protocol.transport.get_extra_info("socket") for protocol in running.server.server_state.connections]
    assert connections, "the client keeps its connection open"
    assert all(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for connection in connections)


def test_a_dead_inference_thread_fails_the_health_check(start: Any, make_engine: Any, wait_until: Any) -> None:
    class Deadly(make_engine):  # type: ignore[misc]
        def search(self, jobs: list[Any]) -> Any:
            if self.seen == ["1"]:
                raise SystemExit
            return super().search(jobs)

    dying = start({"deadly": Deadly()})
    assert dying.translate("a").status_code == 503
    wait_until(lambda: dying.client.get("/healthz").status_code == 503)
    assert dying.translate("a").json()["error_type"] == "unavailable"


def test_a_full_queue_is_a_429(start: Any, wait_until: Any) -> None:
    small = start(queue_items=4, max_items=4)
    threads = [small.background(["hold", "b"]), small.background("c")]
    refused = small.translate(["d", "e"])
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.json()["error_type"] == "queue_full"
    assert small.client.get("/readyz").status_code == 200, "a full queue does not make the server unready"
    threads.append(small.background("f"))
    small.engine.release.set()
    for thread in threads:
        thread.join()
    assert small.engine.seen == ["1", "hold", "b", "c", "f"]
    wait_until(lambda: small.service.batcher.items == 0)
    assert small.translate(["d", "e", "f", "g"]).status_code == 200


def test_a_passed_deadline_is_a_504_and_a_waiting_job_never_runs(start: Any, wait_until: Any) -> None:
    slow = start()
    thread = slow.background("hold")
    answer = slow.translate("late", timeout_ms=50)
    assert (answer.status_code, answer.json()["error_type"]) == (504, "deadline_exceeded")
    assert "50 ms" in answer.json()["detail"]
    slow.engine.release.set()
    thread.join()
    wait_until(lambda: slow.service.batcher.items == 0)
    assert slow.translate("next").status_code == 200
    assert slow.engine.seen == ["1", "hold", "next"]


def test_a_running_job_keeps_its_place_after_the_deadline(start: Any) -> None:
    slow = start(timeout_ms=50)
    assert slow.translate("hold").status_code == 504
    assert slow.service.batcher.items == 1, "the place is freed when the inference has ended"
    slow.engine.release.set()


def test_a_client_that_goes_away_while_queued_is_dropped(
    start: Any, wait_until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    slow = start()
    thread = slow.background("hold")
    wait_until(lambda: "hold" in slow.engine.seen)  # it runs; otherwise the next one may join its batch
    body = b'{"inputs": "gone"}'
    head = b"POST /v1/translate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with socket.create_connection((slow.client.base_url.host, slow.client.base_url.port)) as raw:
        raw.sendall(head % len(body) + body)
        wait_until(lambda: slow.service.batcher.items == 2)
    wait_until(lambda: slow.service.batcher.items == 1)
    slow.engine.release.set()
    thread.join()
    assert slow.translate("next").status_code == 200
    assert slow.engine.seen == ["1", "hold", "next"]
    assert any(" 499 " in record.message for record in caplog.records)


def test_a_stuck_inference_fails_the_health_check(start: Any, wait_until: Any) -> None:
    slow = start(stuck_seconds=0.05)
    thread = slow.background("hold")
    wait_until(lambda: slow.client.get("/healthz").status_code == 503)
    slow.engine.release.set()
    thread.join()
    wait_until(lambda: slow.client.get("/healthz").status_code == 200)


def test_not_ready_until_every_model_is_loaded_and_warm(start: Any, make_engine: Any, wait_until: Any) -> None:
    engines = {"first": make_engine(), "second": make_engine()}
    may_load = threading.Event()

    def load(path: Path, _: Settings) -> Any:
        if path.name == "second":
            may_load.wait(10)
        return engines[path.name]

    loading = start(engines, load=load, ready=False)
    wait_until(lambda: "first" in loading.service.models)
    assert engines["first"].seen == ["1"], "a warm-up ran"
    for answer in (loading.client.get("/readyz"), loading.translate("a", model="first")):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json()["error_type"] == "unavailable"
    assert loading.client.get("/healthz").status_code == 200
    may_load.set()
    wait_until(lambda: loading.client.get("/readyz").status_code == 200)
    assert engines["second"].seen == ["1"]


def test_a_bundle_that_cannot_be_loaded_stops_the_server(start: Any, wait_until: Any) -> None:
    may_load = threading.Event()

    def load(path: Path, _: Settings) -> Any:
        may_load.wait(10)
        raise BundleError(f"{path}: altered")

    broken = start(load=load, ready=False)
    may_load.set()
    wait_until(lambda: broken.server.should_exit)
    assert str(broken.service.failure) == "echo: altered"


def test_after_sigterm_the_server_is_not_ready_and_finishes_admitted_requests(start: Any, wait_until: Any) -> None:
    leaving = start(grace_seconds=600)
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(leaving.translate("hold on")))
    thread.start()
    wait_until(lambda: leaving.service.batcher.items == 1)
    leaving.server.handle_exit(signal.SIGTERM, None)
    assert leaving.client.get("/readyz").status_code == 503
    assert leaving.client.get("/healthz").status_code == 200
    assert leaving.client.get("/v1/models").status_code == 200
    leaving.server.handle_exit(signal.SIGTERM, None)
    assert leaving.server.should_exit
    leaving.engine.release.set()
    thread.join()
    assert answers[0].status_code == 200


WRONG_SETTINGS = [
    ({"bundles": []}, "at least 1 item"),
    ({"bundles": ["a/x", "b/x"]}, "same folder name"),
    ({"bundles": ["a", "b"], "expect_digest": "0"}, "several are served"),
    ({"bundles": ["a"], "max_items": 300}, "cannot exceed queue_items"),
    ({"bundles": ["a"], "port": 70000}, "65535"),
    ({"bundles": ["a"], "prot": 1}, "Extra inputs"),
    ({"bundles": ["a"], "api_key": ""}, "api_key is empty"),
]


@pytest.mark.parametrize(("values", "message"), WRONG_SETTINGS)
def test_wrong_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings.model_validate(values)


def test_the_default_host_is_loopback() -> None:
    assert Settings(bundles=[Path("x")]).host == "127.0.0.1"
