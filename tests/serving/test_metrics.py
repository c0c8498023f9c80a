"""What /metrics shows: the names and labels of the contract, and counts that fit what was sent."""

from __future__ import annotations

import time
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

HTTP = "http_server_request_duration_seconds"
CONTRACT = {
    HTTP: {"http_request_method", "http_route", "http_response_status_code"},
    "compress_requests": {"model", "task", "outcome"},
    "compress_request_failures": {"model", "reason"},
    "compress_queue_requests": set(),
    "compress_queue_tokens": set(),
    "compress_queue_wait_seconds": set(),
    "compress_batch_size": set(),
    "compress_batch_tokens": set(),
    "compress_inference_seconds": set(),
    "compress_input_tokens": set(),
    "compress_output_tokens": set(),
    "compress_inflight": set(),
    "compress_model_info": {"model", "task", "source", "target", "precision"},
}


def samples(running: Any) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = running.client.get("/metrics").text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(shown: dict[Any, float], name: str, **labels: str) -> float:
    return shown.get((name, frozenset(labels.items())), 0)


def test_the_metrics_are_those_of_the_contract(start: Any) -> None:
    running = start()
    assert running.translate("a").status_code == 200
    assert running.translate("boom").status_code == 500
    families = {family.name: family for family in text_string_to_metric_families(running.client.get("/metrics").text)}
    assert set(CONTRACT) <= set(families)
    for name, labels in CONTRACT.items():
        assert families[name].samples, name
        assert {label for sample in families[name].samples for label in sample.labels} - {"le"} == labels, name


def test_counts_fit_the_requests(start: Any, wait_until: Any) -> None:
    running = start(api_key="k")
    running.client.headers["authorization"] = "Bearer k"
    before = samples(running)
    assert running.translate(["a b", "c"]).status_code == 200
    assert running.translate("").status_code == 422
    assert running.translate("boom").status_code == 500
    assert running.client.post("/v1/translate", json={}, headers={"authorization": "Bearer x"}).status_code == 401
    assert running.client.get("/nothing/here").status_code == 404
    after = samples(running)

    def more(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    echo = {"model": "echo", "task": "translation"}
    assert more("compress_requests_total", **echo, outcome="ok") == 1
    assert more("compress_requests_total", **echo, outcome="invalid_request") == 1
    assert more("compress_request_failures_total", model="echo", reason="internal_error") == 1
    assert more("compress_request_failures_total", model="", reason="unauthorized") == 1
    assert more("compress_request_failures_total", model="", reason="not_found") == 1
    assert more("compress_input_tokens_total") == 3 + 2  # a word a token, and the end of sentence
    assert more("compress_output_tokens_total") == 3 + 2
    assert more("compress_batch_size_sum") >= 2 and more("compress_queue_wait_seconds_count") >= 2
    route = {"http_request_method": "POST", "http_route": "/v1/translate"}
    assert more(f"{HTTP}_count", **route, http_response_status_code="200") == 1
    assert more(f"{HTTP}_count", **{**route, "http_route": ""}, http_response_status_code="401") == 1


def test_gauges_show_what_waits_and_runs(start: Any, wait_until: Any) -> None:
    running = start()
    threads = [running.background("hold"), running.background("a b c")]
    now = samples(running)
    assert value(now, "compress_queue_requests") == 2
    assert value(now, "compress_inflight") == 3  # and /metrics itself
    assert value(now, "compress_queue_tokens") >= 4
    running.engine.release.set()
    for thread in threads:
        thread.join()
    wait_until(lambda: value(samples(running), "compress_queue_requests") == 0)
    assert value(samples(running), "compress_inflight") == 1


@pytest.mark.parametrize("method", ["PROPFIND", "LOCK"])
def test_labels_do_not_grow_with_what_clients_send(start: Any, method: str) -> None:
    running = start()
    running.client.request(method, "/secret/path-1")
    labels = {pair for _, pairs in samples(running) for pair in pairs}
    assert ("http_request_method", "_OTHER") in labels
    assert not any("secret" in text or "127.0.0.1" in text for _, text in labels)


def test_a_stream_that_fails_midway_is_a_failure(start: Any) -> None:
    running = start()
    answer = running.client.post("/v1/translate", json={"inputs": "a midway", "stream": True})
    assert "event: error" in answer.text
    end = time.monotonic() + 5
    failed = {"model": "echo", "reason": "internal_error"}
    while value(samples(running), "compress_request_failures_total", **failed) != 1:
        assert time.monotonic() < end
