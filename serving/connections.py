"""Limits on a connection that uvicorn does not have: time and size of a request's head, time to take an answer."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from serving.settings import Settings

_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


_Connection: Any = AutoHTTPProtocol  # of httptools where it is installed, else of h11


class LimitedConnection(_Connection):  # type: ignore[misc]
    """One connection.

    It is closed when the head of its first request, or of a later one that has begun, has not arrived within
    ``receive_seconds``, however slowly its bytes come; without a byte after an answer it has uvicorn's own limit. It is
    closed, too, when the client has not read for ``send_seconds`` while more waits to be sent than the transport
    buffers; what was being made for it is then dropped.
    """

    settings: Settings
    _head_timer: asyncio.TimerHandle | None = None
    _send_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:  # the head is complete
            self._stop_timer()
            return
        if self.cycle is None or not self.cycle.more_body:  # else the rest of a body that was refused
            self._head_bytes += len(data)
        if self._head_bytes > self.settings.max_header_bytes:
            self._refuse(_TOO_LARGE)
        elif self._head_timer is None:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._stop_timer()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        super().pause_writing()
        self._send_timer = self.loop.call_later(self.settings.send_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        super().resume_writing()
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def _start_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.settings.receive_seconds, self._refuse, _TOO_SLOW)

    def _stop_timer(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()


def protocol_class(settings: Settings) -> type[asyncio.Protocol]:
    """Returns uvicorn's protocol with the limits of these settings."""
    return type("LimitedConnection", (LimitedConnection,), {"settings": settings})
