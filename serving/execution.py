"""One request from texts to outputs: encode their sentences, admit the jobs, wait for the results, decode them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from typing import Any, TypeVar

from starlette.requests import Request

from compressor.runtime.documents import Document, DocumentStream, Overlong, Split, prepare
from compressor.runtime.results import Result
from serving.batcher import Batcher
from serving.jobs import ClientGone, Deadline, DeadlineExceeded, Draining, Job, JobOptions, ServingEngine

T = TypeVar("T")
WATCH_AFTER = 0.05
"""Seconds after which a request is watched for the end of its client; most answers come before, without that cost."""
INLINE_CHARACTERS = 4096
"""Texts of this length in total take about a millisecond to encode, which the event loop can spare."""


@dataclass(frozen=True)
class RequestJobs:
    """The texts of one request, and the jobs of the sentences of each."""

    documents: list[Document]
    jobs: list[list[Job]]
    deadline: Deadline

    def all_jobs(self) -> list[Job]:
        """Returns the jobs of all texts, in order."""
        return list(chain.from_iterable(self.jobs))


async def make_jobs(
    request: Request,
    batcher: Batcher,
    engine: ServingEngine,
    texts: Sequence[str],
    *,
    split: Split,
    truncation: Overlong | None,
    options: JobOptions,
    deadline: Deadline,
) -> RequestJobs:
    """Returns the jobs of texts. Long texts are encoded in a thread, none while the queue is full.

    Raises:
        JobError: The queue is full or closed, the deadline has passed, or the client is gone.
        TooLongError: Sentences are over the model's limit, and ``truncation`` is ``error``.
        InputError: A text is not valid for the model.
    """
    batcher.require_room(len(texts))
    encode = partial(
        prepare,
        texts,
        encode=engine.encode,
        letter_case=engine.letter_case,
        split=split,
        truncation=truncation or engine.manifest.truncation,
        source_language=engine.manifest.source_language,
        target_language=engine.manifest.target_language,
    )
    short = sum(map(len, texts)) <= INLINE_CHARACTERS
    documents = encode() if short else await wait(request, asyncio.to_thread(encode), deadline)
    jobs = [
        [replace(job, places=0) for job in jobs[:-1]] + jobs[-1:]
        for jobs in ([Job(source, options, deadline) for source in one.sources] for one in documents)
    ]
    return RequestJobs(documents, jobs, deadline)


async def run_jobs(request: Request, batcher: Batcher, engine: ServingEngine, work: RequestJobs) -> list[Result]:
    """Returns the results of the texts, in order. On any error, jobs that have not begun never run.

    Raises:
        JobError: The queue is full or closed, the deadline has passed, or the client is gone.
    """
    jobs = work.all_jobs()
    batcher.submit(engine, jobs)
    outputs = await wait(request, _outputs(jobs), work.deadline)
    return _results(engine, work, outputs)


class DeltaStream:
    """Pieces of the outputs of one request, in the order of its sentences, as the inference thread makes them.

    Raises:
        JobError: The queue is full or closed.
    """

    def __init__(self, batcher: Batcher, engine: ServingEngine, work: RequestJobs) -> None:
        self._engine, self._work = engine, work
        self._deltas: asyncio.Queue[tuple[int, str] | None] = asyncio.Queue()
        self._stopped = False
        self._loop = asyncio.get_running_loop()
        streamed = []
        for text, (document, jobs) in enumerate(zip(work.documents, work.jobs, strict=True)):
            pieces = DocumentStream(document)
            self._put(text, pieces.opening())
            for sentence, job in enumerate(jobs):
                # Before the job is submitted, so that its end comes before the next job's first piece.
                job.future.add_done_callback(partial(self._finish, text, pieces, sentence))
                streamed.append(replace(job, on_delta=partial(self._receive, text, pieces, sentence)))
        batcher.submit(engine, streamed)
        self._finished = _outputs(streamed)
        self._finished.add_done_callback(self._end)

    async def get(self) -> tuple[int, str] | None:
        """Returns the next piece with the index of its text, or None after the last; raises the error of a job."""
        item = await self._deltas.get()
        if item is None:
            self._finished.result()
        return item

    def results(self) -> list[Result]:
        """Returns the whole outputs, in the order of the texts, once there are no more pieces."""
        return _results(self._engine, self._work, self._finished.result())

    def stop(self) -> None:
        """Ends the running job at its next token, and drops the jobs that have not begun."""
        self._stopped = True
        self._finished.cancel()

    def _end(self, finished: asyncio.Future[list[list[int]]]) -> None:
        if not finished.cancelled():
            finished.exception()  # marks it as retrieved: after stop() nobody asks for it
        self._deltas.put_nowait(None)

    def _receive(self, text: int, pieces: DocumentStream, sentence: int, delta: str) -> bool:
        """Takes a piece of a sentence's output, in the inference thread; returns whether more are wanted."""
        self._put(text, pieces.piece(sentence, delta))
        return not self._stopped

    def _finish(self, text: int, pieces: DocumentStream, sentence: int, future: Future[list[int]]) -> None:
        """Takes the end of a sentence's output, in the inference thread."""
        if not future.cancelled() and future.exception() is None:
            self._put(text, pieces.end(sentence))

    def _put(self, text: int, piece: str) -> None:
        if piece and not self._stopped:
            self._loop.call_soon_threadsafe(self._deltas.put_nowait, (text, piece))


def _outputs(jobs: Sequence[Job]) -> asyncio.Future[list[list[int]]]:
    """Returns a future of the outputs of all jobs, or of the first error of one.

    Once it is done or cancelled, jobs that have not begun are dropped. The inference threads wake the event loop once a
    request, not once a sentence.
    """
    loop = asyncio.get_running_loop()
    outputs: asyncio.Future[list[list[int]]] = loop.create_future()
    lock, left = threading.Lock(), len(jobs)

    def settle(error: BaseException | None) -> None:
        if outputs.done():
            return
        if error is None:
            outputs.set_result([job.future.result() for job in jobs])
        else:
            outputs.set_exception(error)

    def end(future: Future[list[int]]) -> None:
        nonlocal left
        with lock:
            left -= 1
            last = left == 0
        # Whoever cancels a job without cancelling the outputs is a batcher that closes.
        error = Draining() if future.cancelled() else future.exception()
        if (last or error is not None) and not outputs.done() and not loop.is_closed():
            loop.call_soon_threadsafe(settle, error)

    def drop(_: object) -> None:
        for job in jobs:
            job.future.cancel()

    outputs.add_done_callback(drop)
    for job in jobs:
        job.future.add_done_callback(end)
    if not jobs:
        outputs.set_result([])
    return outputs


async def wait(request: Request, awaitable: Awaitable[T], deadline: Deadline) -> T:
    """Returns the result of ``awaitable``; cancels it when the deadline passes or the client goes away first.

    Raises:
        DeadlineExceeded: The deadline has passed.
        ClientGone: The client closed the connection.
    """
    result = asyncio.ensure_future(awaitable)
    try:
        await asyncio.wait({result}, timeout=min(WATCH_AFTER, max(0.0, deadline.seconds_left())))
        return result.result() if result.done() else await _wait_watching(request, result, deadline)
    finally:
        result.cancel()


async def _wait_watching(request: Request, result: asyncio.Future[T], deadline: Deadline) -> T:
    """Does what ``wait`` says, and looks out for the client."""
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        first: set[asyncio.Future[Any]] = {result, gone}
        await asyncio.wait(first, timeout=deadline.seconds_left(), return_when=asyncio.FIRST_COMPLETED)
        if result.done():
            return result.result()
        raise ClientGone if gone.done() else DeadlineExceeded(deadline.timeout_ms)
    finally:
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _results(engine: ServingEngine, work: RequestJobs, outputs: Sequence[list[int]]) -> list[Result]:
    """Returns the results of texts from the token ids of all their jobs."""
    results = iter([_result(engine, job, token_ids) for job, token_ids in zip(work.all_jobs(), outputs, strict=True)])
    return [one.result(list(islice(results, len(one.sources)))) for one in work.documents]


def _result(engine: ServingEngine, job: Job, token_ids: list[int]) -> Result:
    return Result(
        text=engine.decode(token_ids),
        token_ids=token_ids,
        input_tokens=len(job.source.token_ids),
        output_tokens=len(token_ids),
        truncated=job.source.truncated,
        finish_reason=engine.finish_reason(token_ids, job.max_new_tokens),
    )
