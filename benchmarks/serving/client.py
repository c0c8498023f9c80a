"""An HTTP/1.1 client that keeps connections alive and takes little processor time from the server beside it."""

from __future__ import annotations

import asyncio
import re
import time
from typing import NamedTuple
from urllib.parse import urlsplit

from compressor.errors import ConfigError

IDLE_SECONDS = 3.0
"""A connection that was idle for longer is not used again: servers close theirs after 5 s (uvicorn), in a race."""
CONNECT_SECONDS = 5.0

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Address:
        """Returns the address in an ``http://HOST:PORT`` URL. Raises ConfigError for any other."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or 80
        except ValueError:
            host, port = None, 0
        if not host or parts.scheme != "http" or parts.path not in ("", "/"):
            raise ConfigError(f"{url!r} is no address of a server: give http://HOST:PORT")
        return cls(host, port)


class Response(NamedTuple):
    """A whole response. ``reusable``: the server keeps the connection open."""

    status: int
    body: bytes
    reusable: bool


class ProtocolError(Exception):
    """The server sent a response without a length, or something that is no HTTP."""


def encode_request(method: str, path: str, address: Address, body: bytes = b"", *, key: str = "") -> bytes:
    """Returns the bytes of a request. ``key`` is sent as a bearer token."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {address.host}:{address.port}", f"Content-Length: {len(body)}"]
    lines += ["Content-Type: application/json"] if body else []
    lines += [f"Authorization: Bearer {key}"] if key else []
    return "\r\n".join([*lines, "", ""]).encode() + body


def take_response(buffer: bytearray) -> Response | None:
    """Removes a response from the start of ``buffer``; returns None while it is not whole. Raises ProtocolError."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(buffer[:end])
    length = _LENGTH.search(head)
    if length is None or not head.startswith(b"HTTP/1.") or not head[9:12].isdigit():
        raise ProtocolError("a response without Content-Length")
    stop = end + 4 + int(length[1])
    if len(buffer) < stop:
        return None
    body = bytes(buffer[end + 4 : stop])
    del buffer[:stop]
    return Response(int(head[9:12]), body, _CLOSE.search(head) is None)


class Connection(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._waiting: asyncio.Future[Response] | None = None
        self._transport: asyncio.Transport | None = None
        self.idle_since = time.monotonic()

    @classmethod
    async def open(cls, address: Address) -> Connection:
        """Connects. Raises OSError where that fails, TimeoutError where it takes too long."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_SECONDS):
            _, connection = await loop.create_connection(cls, address.host, address.port)
        return connection

    async def request(self, message: bytes) -> Response:
        """Sends a request and returns the response. Raises ConnectionError or ProtocolError."""
        if self._transport is None:
            raise ConnectionError("the connection is closed")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(message)
        try:
            response = await self._waiting
        finally:
            self._waiting = None
        self.idle_since = time.monotonic()
        return response

    @property
    def is_usable(self) -> bool:
        """Whether the connection is open and was in use a short time ago."""
        return self._transport is not None and time.monotonic() - self.idle_since < IDLE_SECONDS

    def close(self) -> None:
        """Closes the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._transport = None
        self._fail(ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._buffer += data
        try:
            response = take_response(self._buffer)
        except ProtocolError as error:
            self._fail(error)
            self.close()
            return
        if response is not None and self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(response)

    def _fail(self, error: Exception) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)


class Pool:
    """Connections to one server; as many are opened as requests are under way at a time.

    Args:
        address: The server's.
        timeout_s: Longest wait for a response, in seconds.
    """

    def __init__(self, address: Address, timeout_s: float) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self._idle: list[Connection] = []

    async def send(self, message: bytes) -> Response:
        """Sends a request on an idle connection, or a new one.

        Raises:
            OSError: no connection can be made, or it was closed before the response.
            TimeoutError: there was no response in time.
            ProtocolError: the response is no HTTP/1.1 with a length.
        """
        connection = await self._connection()
        try:
            async with asyncio.timeout(self.timeout_s):
                response = await connection.request(message)
        except BaseException:
            connection.close()
            raise
        if response.reusable:
            self._idle.append(connection)
        else:
            connection.close()
        return response

    def close(self) -> None:
        """Closes all idle connections."""
        while self._idle:
            self._idle.pop().close()

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable:
                return connection
            connection.close()
        return await Connection.open(self.address)
