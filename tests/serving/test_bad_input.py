"""Invalid requests: each gets its status and a complete error body, and the next request works."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.app import build_app
from serving.settings import Settings

FIELDS = {"type", "title", "status", "detail", "error", "error_type", "message", "errors"}
JSON = "application/json"


def check_problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"]
    body: dict[str, Any] = answer.json()
    assert set(body) == FIELDS
    assert body["status"] == status
    assert body["detail"] == body["error"] == body["message"] != ""
    assert "\n" not in body["detail"]
    assert all(set(mistake) == {"message", "pointer"} for mistake in body["errors"]) and body["errors"]
    return body


@pytest.fixture(autouse=True)
def _the_next_request_works(server: Any) -> Iterator[None]:
    yield
    assert server.client.get("/healthz").status_code == 200
    assert server.translate("golden words").json()["outputs"][0]["text"] == "GOLDEN WORDS"
    assert server.service.batcher.items == 0


NOT_JSON = {
    "truncated": b'{"inputs": "a',
    "empty": b"",
    "not utf-8": b'{"inputs": "\xff\xfe"}',
    "utf-16": '{"inputs": "a"}'.encode("utf-16"),
    "lone surrogate": b'{"inputs": "\\ud800"}',
    "lone surrogate in a key": b'{"inputs": "a", "\\udfff": 1}',
    "reversed surrogates": b'{"inputs": "\\udc00\\ud800"}',
    "NaN": b'{"inputs": "a", "timeout_ms": NaN}',
    "Infinity": b'{"inputs": "a", "parameters": {"length_penalty": -Infinity}}',
    "5000 digits": b'{"inputs": "a", "timeout_ms": ' + b"9" * 5000 + b"}",
    "100,000 arrays": b"[" * 100_000,
    "100,000 objects": b'{"a":' * 100_000,
    "100,000 arrays, closed": b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "two documents": b'{"inputs": "a"}{}',
    "byte order mark": b'\xef\xbb\xbf{"inputs": "a"}',
    "raw NUL": b'{"inputs": "\x00"}',
}


@pytest.mark.parametrize("content", NOT_JSON.values(), ids=NOT_JSON.keys())
@pytest.mark.parametrize("path", ["/v1/translate", "/v1/summarize"])
def test_a_body_that_is_not_json_is_a_400(server: Any, content: bytes, path: str) -> None:
    assert check_problem(server.post(content, path), 400)["error_type"] == "invalid_json"


@pytest.mark.parametrize(
    "content",
    [b"[]", b"null", b'"a"', b"{}", b'{"inputs": 1e400}', b'{"inputs": "a", "timeout_ms": ' + b"9" * 4000 + b"}",
     b'{"inputs": "a", "parameters": {"length_penalty": 1e999}}', b'{"inputs": [' + b"[" * 150 + b"]" * 150 + b"]}"],
    ids=lambda content: content[:30].decode(),
)  # fmt: skip
def test_json_that_does_not_match_the_schema_is_a_422(server: Any, content: bytes) -> None:
    check_problem(server.post(content), 422)


def test_many_wrong_items_are_reported_as_one_mistake(server: Any) -> None:
    answer = server.post(b'{"inputs": [' + b"1," * 300_000 + b"1]}")
    assert len(check_problem(answer, 422)["errors"]) == 1


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml",
     "application/json; charset=latin-1", "json", "application/json/x"],
)  # fmt: skip
def test_another_content_type_is_a_415(server: Any, content_type: str) -> None:
    headers = {"content-type": content_type} if content_type else {}
    check_problem(server.client.post("/v1/translate", content=b'{"inputs": "a"}', headers=headers), 415)


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=UTF-8", "Application/JSON", 'application/json;charset="utf-8"']
)
def test_content_types_of_json_are_accepted(server: Any, content_type: str) -> None:
    answer = server.client.post("/v1/translate", content=b'{"inputs": "a"}', headers={"content-type": content_type})
    assert answer.status_code == 200


def test_a_compressed_body_is_a_415(server: Any) -> None:
    bomb = gzip.compress(json.dumps({"inputs": "a" * 10_000_000}).encode())
    for encoding in ("gzip", "br", "deflate", "x"):
        check_problem(server.post(bomb, **{"content-encoding": encoding}), 415)
    assert server.post(b'{"inputs": "a"}', **{"content-encoding": "identity"}).status_code == 200


def test_a_length_header_over_the_limit_is_a_413(server: Any) -> None:
    limit = server.service.settings.max_body_bytes
    fits = b'{"inputs": "a"}'.ljust(limit)
    assert server.post(fits).status_code == 200
    body = check_problem(server.post(fits + b" "), 413)
    assert str(limit) in body["detail"] and str(limit + 1) in body["detail"]


def test_a_length_header_over_the_limit_is_refused_before_the_body(server: Any) -> None:
    """The answer comes although no byte of the body was sent."""
    for length in (b"1048577", b"9" * 30):
        with socket.create_connection((server.client.base_url.host, server.client.base_url.port), timeout=5) as raw:
            head = b"POST /v1/translate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
            raw.sendall(head + length + b"\r\n\r\n")
            assert raw.recv(4096).split(b"\r\n")[0].split()[1] in (b"413", b"400")


def test_a_chunked_body_is_read_only_to_the_limit() -> None:
    """The application asks for no further chunk after the one that exceeds the limit."""
    app = build_app(Settings(bundles=[Path("x")], max_body_bytes=1000), lambda *_: None)
    asked, sent = 0, []

    async def receive() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": b" " * 100, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/translate",
        "raw_path": b"/v1/translate",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")],
    }
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 413
    assert asked == 11
    app.state.service.batcher.close()


def test_a_chunked_body_over_the_limit_is_a_413(server: Any) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"inputs": "'
        for _ in range(30):
            yield b"a" * 65536
        yield b'"}'

    check_problem(server.post(chunks()), 413)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/translate", 405), ("POST", "/v1/models", 405), ("GET", "/nothing", 404), ("POST", "/v1/../x", 404),
     ("POST", "/v1/translate/%0d%0aX: y", 404), ("REPORT", "/v1/translate", 405)],
)  # fmt: skip
def test_unknown_paths_and_methods_are_problems(server: Any, method: str, path: str, status: int) -> None:
    check_problem(server.client.request(method, path, content=b"{}", headers={"content-type": JSON}), status)


def test_a_method_that_no_standard_has_is_refused(server: Any) -> None:
    """By httptools, which does not know it, as no HTTP; where there is only h11, by the route."""
    assert server.client.request("BREW", "/v1/translate").status_code in (400, 405)
    assert server.translate("a").status_code == 200


def test_request_ids_are_unique_or_the_clients(server: Any) -> None:
    answers = [server.translate("a") for _ in range(2)]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert ids[0] != ids[1] and len(ids[0]) == 32
    assert server.post(b'{"inputs": "a"}', **{"x-request-id": "mine-1.2_3"}).json()["id"] == "mine-1.2_3"
    for bad in ("a b", "x" * 65, "a\tb", "<script>"):
        assert server.post(b'{"inputs": "a"}', **{"x-request-id": bad}).json()["id"] != bad


def test_every_request_but_probes_needs_the_key(start: Any) -> None:
    locked = start(api_key="s3cret-ü", ready=True)
    wrong = [None, "", "Bearer", "Bearer x", "Basic s3cret-ü", "Bearer s3cret-ü2", "Bearer \xff"]
    for value in wrong:
        headers = {} if value is None else {"authorization": value.encode("utf-8")}
        answer = locked.client.post("/v1/translate", json={"inputs": "a"}, headers=headers)
        assert check_problem(answer, 401)["error_type"] == "unauthorized"
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "s3cret" not in answer.text
    assert locked.client.get("/v1/models").status_code == 401
    assert locked.client.get("/docs").status_code == 401
    assert locked.client.get("/healthz").status_code == 200
    for value in ("Bearer s3cret-ü", "bearer   s3cret-ü"):
        headers = {"authorization": value.encode("utf-8")}
        assert locked.client.post("/v1/translate", json={"inputs": "a"}, headers=headers).status_code == 200
    assert "s3cret" not in repr(locked.service.settings)
