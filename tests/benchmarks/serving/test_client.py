"""The client: what is a whole response, and which connections are used again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from benchmarks.serving.client import Address, Pool, ProtocolError, Response, encode_request, take_response
from compressor.errors import ConfigError

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab"
CASES = [
    (b"", None, b""),
    (OK[:-3], None, OK[:-3]),
    (OK[:-1], None, OK[:-1]),
    (OK, Response(200, b"ab", True), b""),
    (OK + OK[:9], Response(200, b"ab", True), OK[:9]),
    (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", Response(204, b"", True), b""),
    (OK.replace(b"OK\r\n", b"OK\r\nConnection: Close\r\n"), Response(200, b"ab", False), b""),
]


@pytest.mark.parametrize(("received", "response", "rest"), CASES)
def test_a_response_is_taken_once_it_is_whole(received: bytes, response: Response | None, rest: bytes) -> None:
    buffer = bytearray(received)
    assert take_response(buffer) == response
    assert buffer == rest


@pytest.mark.parametrize("received", [b"HTTP/1.1 200 OK\r\n\r\n", b"SSH-2.0\r\nContent-Length: 0\r\n\r\n"])
def test_what_has_no_length_or_is_no_http_is_an_error(received: bytes) -> None:
    with pytest.raises(ProtocolError):
        take_response(bytearray(received))


def test_requests_have_a_length_and_a_key() -> None:
    message = encode_request("POST", "/x", Address("h", 1), "ü".encode(), key="k")
    head, body = message.split(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /x HTTP/1.1", b"Host: h:1", b"Content-Length: 2", b"Content-Type: application/json",
        b"Authorization: Bearer k",
    ]  # fmt: skip
    assert body == "ü".encode()


@pytest.mark.parametrize("url", ["localhost:8000", "https://x", "http://", "http://x:y", "http://x/v1"])
def test_a_url_that_is_no_plain_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="http://HOST:PORT"):
        Address.of(url)
    assert Address.of("http://[::1]:80/") == ("::1", 80)


def test_a_connection_is_used_again_unless_the_server_closes_it(serving_answers: Any) -> None:
    async def connections(close: bytes) -> int:
        async with serving_answers(lambda _: b"HTTP/1.1 200 OK\r\n" + close + b"Content-Length: 0\r\n\r\n") as address:
            pool, opened = Pool(address, 5), set()
            for _ in range(3):
                await pool.send(encode_request("POST", "/", address, b"{}"))
                opened |= {id(connection) for connection in pool._idle}
            count = len(pool._idle)
            pool.close()
            return count if len(opened) <= 1 else -1

    assert asyncio.run(connections(b"")) == 1
    assert asyncio.run(connections(b"Connection: close\r\n")) == 0
