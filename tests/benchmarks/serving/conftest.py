"""A server of a few lines on a real socket: it answers each request with what a function says."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable

import pytest

from benchmarks.serving.client import Address

Answer = Callable[[bytes], bytes]


class Answering(asyncio.Protocol):
    """Answers every request on a connection in turn; an empty answer closes the connection."""

    def __init__(self, answer: Answer, opened: list[asyncio.Transport]) -> None:
        self.answer, self.opened, self.buffer = answer, opened, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.opened.append(transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, end, rest = self.buffer.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        if end and length and len(rest) >= int(length[1]):
            self.buffer = rest[int(length[1]) :]
            reply = self.answer(rest[: int(length[1])])
            if reply:
                self.transport.write(reply)
            else:
                self.transport.close()


@contextlib.asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[Address]:
    opened: list[asyncio.Transport] = []
    server = await asyncio.get_running_loop().create_server(lambda: Answering(answer, opened), "127.0.0.1", 0)
    try:
        yield Address(*server.sockets[0].getsockname())
    finally:
        server.close()
        for transport in opened:
            transport.abort()
        await asyncio.sleep(0)  # the transports close their sockets


@pytest.fixture
def serving_answers() -> Callable[[Answer], contextlib.AbstractAsyncContextManager[Address]]:
    return answering
