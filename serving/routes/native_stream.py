"""Server-sent events of the native contract: an event for each piece of text, as it is decoded."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse

from serving.batcher import Batcher
from serving.errors import as_problem, internal_error
from serving.execution import DeltaStream, RequestJobs, wait
from serving.jobs import Deadline, DeadlineExceeded
from serving.metrics import Metrics
from serving.models import ServedModel
from serving.schemas import Output

PING_SECONDS = 15.0  # proxies close a connection that is silent for longer
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "text/event-stream": {
                "schema": {
                    "type": "object",
                    "description": "An event of a stream: a piece of text, `done` or `error`; `data` is JSON.",
                    "properties": {"event": {"enum": ["message", "done", "error"]}, "data": {"type": "string"}},
                    "required": ["data"],
                }
            }
        }
    }
}
"""What the OpenAPI document says of a stream."""
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
_log = logging.getLogger("serving")


async def stream_response(
    request: Request, batcher: Batcher, metrics: Metrics, model: ServedModel, work: RequestJobs
) -> StreamingResponse:
    """Returns the response once its first piece is there, so that an error before it has a status of its own.

    Raises:
        JobError: The queue is full or closed, the deadline has passed, or the client is gone.
    """
    deadline = work.deadline
    deltas = DeltaStream(batcher, model.engine, work)
    try:
        first = await wait(request, deltas.get(), deadline)
    except BaseException:
        deltas.stop()
        raise
    request_id = request.state.request_id

    async def events() -> AsyncIterator[str]:
        delta = first
        try:
            while delta is not None:
                yield _event({"index": delta[0], "delta": delta[1]})
                following = asyncio.ensure_future(deltas.get())
                try:
                    async for ping in _pings_until_done(following, deadline):
                        yield ping
                    delta = following.result()
                finally:
                    following.cancel()
            results = deltas.results()
            metrics.count(model.info.id, results)
            outputs = [Output.of(index, result).model_dump(exclude={"text"}) for index, result in enumerate(results)]
            yield _event({"id": request_id, "model": model.info.id, "outputs": outputs}, "done")
        except Exception as error:
            body = _error_body(error, request_id)
            request.state.failure = body["error_type"]
            yield _event(body, "error")
        finally:
            deltas.stop()

    return StreamingResponse(events(), media_type="text/event-stream", headers=_HEADERS)


async def _pings_until_done(future: asyncio.Future[Any], deadline: Deadline) -> AsyncIterator[str]:
    """Yields a comment every ``PING_SECONDS`` until ``future`` is done. Raises DeadlineExceeded."""
    while not future.done():
        seconds_left = deadline.seconds_left()
        if seconds_left <= 0:
            raise DeadlineExceeded(deadline.timeout_ms)
        await asyncio.wait({future}, timeout=min(seconds_left, PING_SECONDS))
        if not future.done():
            yield ": ping\n\n"


def _event(data: dict[str, Any], name: str = "") -> str:
    return (f"event: {name}\n" if name else "") + f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def _error_body(error: Exception, request_id: str) -> dict[str, Any]:
    problem = as_problem(error)
    if problem is None:
        _log.error("stream %s failed", request_id, exc_info=error)
        problem = internal_error(request_id)
    return problem.body().model_dump()
