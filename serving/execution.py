"""One request from texts to outputs: encode the texts, admit their jobs, wait for the results, decode them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from starlette.requests import Request

from compressor.runtime.results import Result
from compressor.runtime.sources import Truncation
from serving.batcher import Batcher
from serving.jobs import ClientGone, Deadline, DeadlineExceeded, Job, JobOptions, ServingEngine

T = TypeVar("T")
INLINE_CHARACTERS = 4096
"""Texts of this length in total take about a millisecond to encode, which the event loop can spare."""


async def make_jobs(
    request: Request,
    batcher: Batcher,
    engine: ServingEngine,
    texts: Sequence[str],
    *,
    truncation: Truncation | None,
    options: JobOptions,
    deadline: Deadline,
) -> list[Job]:
    """Returns one job a text, in order. Long texts are encoded in a thread, none while the queue is full.

    Raises:
        JobError: The queue is full or closed, the deadline has passed, or the client is gone.
        TooLongError: Texts are over the model's limit, and ``truncation`` is ``error``.
        InputError: A text is not valid for the model.
    """
    batcher.require_room(len(texts))
    if sum(map(len, texts)) <= INLINE_CHARACTERS:
        sources = engine.encode(texts, truncation)
    else:
        sources = await wait(request, asyncio.to_thread(engine.encode, texts, truncation), deadline)
    return [Job(source, options, deadline) for source in sources]


async def run_jobs(request: Request, batcher: Batcher, engine: ServingEngine, jobs: Sequence[Job]) -> list[Result]:
    """Returns the outputs of jobs of one request, in order. On any error, those that have not begun never run.

    Raises:
        JobError: The queue is full or closed, the deadline has passed, or the client is gone.
    """
    batcher.submit(engine, jobs)
    finished = asyncio.gather(*(asyncio.wrap_future(job.future) for job in jobs))
    outputs = await wait(request, finished, jobs[0].deadline)
    return [_result(engine, job, token_ids) for job, token_ids in zip(jobs, outputs, strict=True)]


class DeltaStream:
    """Pieces of the outputs of one request, in the order of its jobs, as the inference thread makes them.

    Raises:
        JobError: The queue is full or closed.
    """

    def __init__(self, batcher: Batcher, engine: ServingEngine, jobs: Sequence[Job]) -> None:
        self._deltas: asyncio.Queue[tuple[int, str] | None] = asyncio.Queue()
        self._stopped = False
        self._loop = asyncio.get_running_loop()
        streamed = [replace(job, on_delta=self._receiver(index)) for index, job in enumerate(jobs)]
        batcher.submit(engine, streamed)
        self._finished = asyncio.gather(*(asyncio.wrap_future(job.future) for job in streamed))
        self._finished.add_done_callback(self._end)

    async def get(self) -> tuple[int, str] | None:
        """Returns the next piece with the index of its job, or None after the last; raises the error of a job."""
        item = await self._deltas.get()
        if item is None:
            self._finished.result()
        return item

    def stop(self) -> None:
        """Ends the running job at its next token, and drops the jobs that have not begun."""
        self._stopped = True
        self._finished.cancel()

    def _end(self, finished: asyncio.Future[list[list[int]]]) -> None:
        if not finished.cancelled():
            finished.exception()  # marks it as retrieved: after stop() nobody asks for it
        self._deltas.put_nowait(None)

    def _receiver(self, index: int) -> Callable[[str], bool]:
        def receive(delta: str) -> bool:
            if not self._stopped:
                self._loop.call_soon_threadsafe(self._deltas.put_nowait, (index, delta))
            return not self._stopped

        return receive


async def wait(request: Request, awaitable: Awaitable[T], deadline: Deadline) -> T:
    """Returns the result of ``awaitable``; cancels it when the deadline passes or the client goes away first.

    Raises:
        DeadlineExceeded: The deadline has passed.
        ClientGone: The client closed the connection.
    """
    result = asyncio.ensure_future(awaitable)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({result, gone}, timeout=deadline.seconds_left(), return_when=asyncio.FIRST_COMPLETED)
        if result.done():
            return result.result()
        raise ClientGone if gone.done() else DeadlineExceeded(deadline.timeout_ms)
    finally:
        gone.cancel()
        result.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _result(engine: ServingEngine, job: Job, token_ids: list[int]) -> Result:
    return Result(
        text=engine.decode(token_ids),
        token_ids=token_ids,
        input_tokens=len(job.source.token_ids),
        output_tokens=len(token_ids),
        truncated=job.source.truncated,
        finish_reason=engine.finish_reason(token_ids, job.options.max_new_tokens),
    )
