"""A FastAPI application around CTranslate2 that batches across requests, to compare with.

``python -m benchmarks.serving.ctranslate2_app MODEL`` converts a run or a Marian checkpoint and serves it with the
route of LibreTranslate, ``POST /translate``. It is what a team writes in an afternoon: requests wait in a queue, and a
worker takes up to 32 of their texts at a time, after it has waited a few milliseconds for more.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.engines.base import EngineSpec
from benchmarks.engines.conversion import convert
from benchmarks.engines.ctranslate2.engine import CTranslate2Engine
from benchmarks.engines.registry import RIVAL

NAME = RIVAL.name
Translate = Callable[[list[str]], list[str]]


class TranslateBody(BaseModel):
    """A request of LibreTranslate; languages and format are taken and not looked at."""

    q: str | list[str]
    source: str = "auto"
    target: str = "en"
    format: str = "text"


class TranslateAnswer(BaseModel):
    """Its answer."""

    translatedText: str | list[str]


class _Waiting(NamedTuple):
    text: str
    future: asyncio.Future[str]


class DynamicBatcher:
    """Collects the texts of all requests, and runs them in threads.

    Args:
        translate: Translates a batch.
        max_batch: Texts in a batch.
        wait_s: How long a batch waits for further texts, in seconds.
        parallel: Batches at a time.
    """

    def __init__(self, translate: Translate, *, max_batch: int, wait_s: float, parallel: int) -> None:
        self._translate, self._max_batch, self._wait_s = translate, max_batch, wait_s
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._pool = ThreadPoolExecutor(parallel)
        self.parallel = parallel

    async def translate(self, texts: Sequence[str]) -> list[str]:
        """Returns the translations of the texts of one request."""
        waiting = [_Waiting(text, asyncio.get_running_loop().create_future()) for text in texts]
        for one in waiting:
            self._queue.put_nowait(one)
        return list(await asyncio.gather(*(one.future for one in waiting)))

    async def work(self) -> None:
        """Runs batches until it is cancelled; as many tasks of it run as batches at a time."""
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._collect()
            try:
                outputs = await loop.run_in_executor(self._pool, self._translate, [one.text for one in batch])
            except Exception as error:
                for one in batch:
                    one.future.set_exception(error)
                continue
            for one, output in zip(batch, outputs, strict=True):
                if not one.future.done():  # its client may have gone
                    one.future.set_result(output)

    async def _collect(self) -> list[_Waiting]:
        """Returns the next batch: what waits already, and what comes in a short time if that does not fill it."""
        batch = [await self._queue.get()]
        deadline = asyncio.get_running_loop().time() + self._wait_s
        while len(batch) < self._max_batch:
            try:
                batch.append(self._queue.get_nowait())
            except asyncio.QueueEmpty:
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0:
                    break
                with contextlib.suppress(TimeoutError):
                    batch.append(await asyncio.wait_for(self._queue.get(), left))
        return batch


def build_app(batcher: DynamicBatcher) -> FastAPI:
    """Returns the application."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        workers = [asyncio.create_task(batcher.work()) for _ in range(batcher.parallel)]
        yield
        for worker in workers:
            worker.cancel()

    app = FastAPI(lifespan=lifespan)

    @app.post("/translate")
    async def translate(body: TranslateBody) -> TranslateAnswer:
        texts = [body.q] if isinstance(body.q, str) else body.q
        outputs = await batcher.translate(texts)
        return TranslateAnswer(translatedText=outputs[0] if isinstance(body.q, str) else outputs)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


def translator(folder: Path, precision: str, threads: int) -> Translate:
    """Returns a function that translates a batch greedily with a converted model; ``threads`` batches at a time."""
    spec = EngineSpec(engine=NAME, model=NAME, path=str(folder), precision=precision, inter_threads=threads)
    engine = CTranslate2Engine(spec, 1)
    engine.translate(["a"], num_beams=1)
    return lambda texts: engine.translate(texts, num_beams=1).texts


def serve(batcher: DynamicBatcher, host: str, port: int) -> None:
    """Serves until SIGTERM; prints where it listens."""
    listener = socket.create_server((host, port), backlog=2048)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as fair as can be: small answers are not delayed
    print(f"listening on http://{host}:{listener.getsockname()[1]}", file=sys.stderr, flush=True)
    config = uvicorn.Config(build_app(batcher), log_config=None, log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])


def main(arguments: Sequence[str] | None = None) -> None:
    """Converts the model, and serves it until it is stopped."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.serving.ctranslate2_app", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="run or Marian checkpoint")
    parser.add_argument("--precision", default="int8", help="fp32 or int8")
    parser.add_argument("--threads", type=int, default=2, help="batches at a time, with one thread each")
    parser.add_argument("--max-batch", type=int, default=32, help="texts in a batch; 1: no batching across requests")
    parser.add_argument("--wait-ms", type=float, default=2.0, help="how long a batch waits for further texts")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as work:
        spec = EngineSpec(engine=NAME, model=NAME, path=str(options.model), precision=options.precision)
        translate = translator(convert(spec, Path(work)), options.precision, options.threads)
        batcher = DynamicBatcher(
            translate, max_batch=options.max_batch, wait_s=options.wait_ms / 1000, parallel=options.threads
        )
        serve(batcher, options.host, options.port)


if __name__ == "__main__":
    main()
