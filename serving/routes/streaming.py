"""Server-sent events: every piece of text as the decoder gives it."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse

from serving.inference import stream
from serving.problems import Problem
from serving.schemas import SummarizeRequest
from serving.service import Model, Service, deadline_passed

PING_SECONDS = 15.0  # proxies close what is silent for longer
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
_log = logging.getLogger("serving")


class _Pieces:
    """Pieces of text on their way from the worker's thread to one client; ``None`` says that there are no more."""

    def __init__(self, service: Service, model: Model, body: SummarizeRequest) -> None:
        self._queue: asyncio.Queue[tuple[int, str] | None] = asyncio.Queue()
        self._stopped = threading.Event()
        loop = asyncio.get_running_loop()

        def job() -> None:
            for piece in stream(model, body):
                if self._stopped.is_set():
                    return
                loop.call_soon_threadsafe(self._queue.put_nowait, piece)

        self.job = service.worker.submit(job, len(body.inputs))
        self.job.add_done_callback(lambda _: self._queue.put_nowait(None))

    async def get(self) -> tuple[int, str] | None:
        """Returns the next piece; raises what the engine raised."""
        piece = await self._queue.get()
        if piece is None:
            self.job.result()
        return piece

    def stop(self) -> None:
        """Ends the job, before it begins or at its next token."""
        self._stopped.set()
        self.job.cancel()


async def stream_response(
    service: Service, model: Model, body: SummarizeRequest, request: Request
) -> StreamingResponse:
    """Starts a stream once there is something to send, so that a refusal still has its own status."""
    timeout_ms = body.timeout_ms or service.settings.timeout_ms
    deadline = asyncio.get_running_loop().time() + timeout_ms / 1000
    pieces = _Pieces(service, model, body)
    waiting = asyncio.ensure_future(pieces.get())
    try:
        first = await service.wait(request, waiting, timeout_ms)
    except BaseException:
        waiting.cancel()
        pieces.stop()
        raise

    async def events() -> AsyncIterator[str]:
        piece = first
        try:
            while piece is not None:
                yield _event({"index": piece[0], "delta": piece[1]})
                next_piece = asyncio.ensure_future(pieces.get())
                while not next_piece.done():
                    left = deadline - asyncio.get_running_loop().time()
                    if left <= 0:
                        next_piece.cancel()
                        raise deadline_passed(timeout_ms)
                    await asyncio.wait({next_piece}, timeout=min(left, PING_SECONDS))
                    if not next_piece.done():
                        yield ": ping\n\n"
                piece = next_piece.result()
            yield _event({"id": request.state.request_id, "model": model.info.id}, "done")
        except Exception as error:
            yield _event(_failure(error, request.state.request_id), "error")
        finally:
            pieces.stop()

    return StreamingResponse(events(), media_type="text/event-stream", headers=_HEADERS)


def _event(data: dict[str, Any], name: str = "") -> str:
    return (f"event: {name}\n" if name else "") + f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def _failure(error: Exception, request_id: str) -> dict[str, Any]:
    if not isinstance(error, Problem):
        _log.error("stream %s failed", request_id, exc_info=error)
        error = Problem(500, f"the server failed at this request; its log has the cause under {request_id}")
    return error.body().model_dump()
