"""Keys, rates, origins, closed pages, and what the log says of a request."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from typing import Any

import pytest

from serving.access import Access
from serving.errors import Problem
from serving.logs import JsonFormatter
from serving.rate_limits import RateLimits
from serving.settings import Settings

ORIGIN = "https://app.example"


def key(name: str, secret: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "sha256": hashlib.sha256(secret.encode()).hexdigest(), **fields}


def ask(running: Any, secret: str | None = None, scheme: str = "Bearer", **headers: str) -> Any:
    sent = {**headers, **({"authorization": f"{scheme} {secret}"} if secret else {})}
    return running.client.post("/v1/translate", json={"inputs": "a"}, headers=sent)


def test_each_key_has_its_rate(start: Any) -> None:
    running = start(keys=[key("few", "k1", rate_limit="2/hour"), key("many", "k2")], rate_limit="4/hour")
    assert [ask(running, "k1").status_code for _ in range(3)] == [200, 200, 429]
    assert [ask(running, "k2").status_code for _ in range(5)] == [200] * 4 + [429]
    refused = ask(running, "k1")
    assert refused.json()["error_type"] == "rate_limited"
    assert 0 < int(refused.headers["retry-after"]) <= 3600
    assert ask(running, "k3").status_code == ask(running).status_code == 401
    assert running.client.get("/readyz").status_code == 200


def test_without_keys_each_address_has_the_rate(start: Any) -> None:
    running = start(rate_limit="2/hour", trusted_proxies=["127.0.0.1"])
    assert [ask(running).status_code for _ in range(3)] == [200, 200, 429]
    assert ask(running, **{"x-forwarded-for": "203.0.113.7"}).status_code == 200


def test_an_untrusted_proxy_does_not_name_the_address(start: Any) -> None:
    running = start(rate_limit="1/hour")
    statuses = [ask(running, **{"x-forwarded-for": f"203.0.113.{number}"}).status_code for number in (1, 2)]
    assert statuses == [200, 429]


def test_the_scheme_of_deepl_is_a_key_too(start: Any) -> None:
    running = start(keys=[key("a", "k1")])
    assert ask(running, "k1", "DeepL-Auth-Key").status_code == 200
    assert ask(running, "k1", "Basic").status_code == 401


def test_a_key_of_a_body_is_checked() -> None:
    access = Access(Settings(bundles=["x"], keys=[key("a", "k1")]), RateLimits())  # type: ignore[list-item]
    assert access.admit_key(b"k1") == "a"
    with pytest.raises(Problem, match="valid key"):
        access.admit_key(b"k2")


def test_pages_of_allowed_origins_read_answers_and_errors(start: Any) -> None:
    running = start(cors_origins=[ORIGIN], api_key="k")
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    leave = running.client.options("/v1/translate", headers={"origin": ORIGIN, **asked})
    assert leave.status_code == 200
    for answer in (leave, ask(running, "k", origin=ORIGIN), ask(running, "wrong", origin=ORIGIN)):
        assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-allow-origin" not in ask(running, "k", origin="https://evil.example").headers


def test_metrics_and_documents_can_be_closed(start: Any) -> None:
    closed, opened = start(metrics=False, docs=False), start()
    for path in ("/metrics", "/docs", "/openapi.json"):
        assert (closed.client.get(path).status_code, opened.client.get(path).status_code) == (404, 200)
    assert ask(closed).status_code == 200


def test_a_line_of_the_log_has_no_text_and_no_key(start: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    running = start(keys=[key("shop", "k-secret")])
    running.client.post(
        "/v1/translate?q=private", json={"inputs": "private words"},
        headers={"authorization": "Bearer k-secret", "x-request-id": "r-1"},
    )  # fmt: skip
    ask(running, "wrong-secret")
    running.client.get("/readyz")
    records = [record for record in caplog.records if record.name == "serving.access"]
    assert len(records) == 2, "probes are not logged"
    lines = [json.loads(JsonFormatter().format(record)) for record in records]
    assert not any(word in json.dumps(lines) for word in ("private", "secret"))
    first, second = lines
    expected = {"request_id": "r-1", "method": "POST", "path": "/v1/translate", "status": 200, "model": "echo"}
    assert {name: first[name] for name in expected} == expected
    assert (first["key"], first["level"], first["milliseconds"] > 0) == ("shop", "info", True)
    assert (second["status"], second["failure"], "key" in second) == (401, "unauthorized", False)


def test_an_exception_is_one_line_of_json() -> None:
    try:
        raise ValueError("x\ny")
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "f.py", 1, "failed %s", ("ü",), sys.exc_info())
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert json.loads(line)["message"] == "failed ü"
    assert "ValueError" in json.loads(line)["exception"]
