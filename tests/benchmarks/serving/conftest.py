"""A server of a few lines on a real socket: it answers each request with what a function says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from benchmarks.serving.client import Address

Answer = Callable[[bytes], bytes]


@contextlib.asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[Address]:
    """Answers every request on a connection in turn; an empty answer closes the connection."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                body = await reader.readexactly(int(length.split(b":")[1]))
                reply = answer(body)
                if not reply:
                    break
                writer.write(reply)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield Address(*server.sockets[0].getsockname())
    finally:
        server.close()


@pytest.fixture
def serving_answers() -> Callable[[Answer], contextlib.AbstractAsyncContextManager[Address]]:
    return answering
