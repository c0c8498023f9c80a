"""Server-sent events of the native contract."""

from __future__ import annotations

import json
from typing import Any

import pytest

import serving.routes.native_stream


def parse(text: str) -> list[tuple[str, Any]]:
    """Returns the events as (name, data), without comments."""
    events = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if lines:
            events.append((lines.get("event", "message"), json.loads(lines["data"])))
    return events


def test_a_stream_is_pieces_and_then_done(server: Any) -> None:
    answer = server.translate(["guten tag", "ü"], stream=True)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    ended = {"truncated": False, "finish_reason": "eos", "length_stops": 0, "repetition_stops": 0}
    outputs = [
        {"index": 0, "input_tokens": 3, "output_tokens": 3, **ended},
        {"index": 1, "input_tokens": 2, "output_tokens": 2, **ended},
    ]
    assert parse(answer.text) == [
        ("message", {"index": 0, "delta": "GUTEN"}),
        ("message", {"index": 0, "delta": " TAG"}),
        ("message", {"index": 1, "delta": "Ü"}),
        ("done", {"id": answer.headers["x-request-id"], "model": "echo", "outputs": outputs}),
    ]


@pytest.mark.parametrize(("text", "reason"), [("a b c d e f", "length"), ("a b loop", "repetition")])
def test_a_stream_says_how_its_outputs_ended(server: Any, text: str, reason: str) -> None:
    *_, (name, data) = parse(server.translate([text, "a"], stream=True).text)
    assert name == "done"
    assert [output["finish_reason"] for output in data["outputs"]] == [reason, "eos"]


@pytest.mark.parametrize(("inputs", "status"), [("boom", 500), ("a b c d e f g h i", 422), ("", 422)])
def test_an_error_before_the_first_piece_has_its_own_status(server: Any, inputs: str, status: int) -> None:
    answer = server.translate(inputs, stream=True)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def test_an_error_after_the_first_piece_is_an_event(server: Any) -> None:
    first, error = parse(server.translate("fine midway", stream=True).text)
    assert first == ("message", {"index": 0, "delta": "FINE"})
    assert (error[0], error[1]["status"], error[1]["error_type"]) == ("error", 500, "internal_error")
    assert server.translate("a").status_code == 200


def test_a_silent_stream_sends_pings_until_the_deadline(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving.routes.native_stream, "PING_SECONDS", 0.02)
    slow = start()
    text = slow.translate("very slowly", stream=True, timeout_ms=200).text
    assert text.count(": ping\n\n") >= 2
    assert [(name, data.get("status")) for name, data in parse(text)] == [("message", None), ("error", 504)]


def test_a_stream_ends_when_its_client_goes_away(start: Any, wait_until: Any) -> None:
    slow = start()
    with slow.client.stream("POST", "/v1/translate", json={"inputs": "a slowly b", "stream": True}) as answer:
        assert next(answer.iter_lines()).startswith("data: ")
    slow.engine.release.set()
    wait_until(lambda: slow.service.batcher.items == 0)
    assert slow.translate("a").status_code == 200
