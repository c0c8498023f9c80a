"""The peer server's batcher and route, with a function in place of the library."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from benchmarks.serving.ctranslate2_app import DynamicBatcher, build_app


class Upper:
    """Upper-cases batches and writes them down; the first waits until it is released."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.batches: list[list[str]] = []

    def __call__(self, texts: list[str]) -> list[str]:
        self.batches.append(texts)
        if len(self.batches) == 1:
            self.release.wait(10)
        if "boom" in texts:
            raise RuntimeError("broken")
        return [text.upper() for text in texts]


def run(use: Callable[[DynamicBatcher, Upper], Awaitable[Any]], max_batch: int = 3) -> tuple[Any, list[list[str]]]:
    async def main() -> Any:
        worker = asyncio.create_task(batcher.work())
        try:
            return await use(batcher, upper)
        finally:
            worker.cancel()

    upper = Upper()
    batcher = DynamicBatcher(upper, max_batch=max_batch, wait_s=0.0, parallel=1)
    return asyncio.run(main()), upper.batches


async def after_the_first(batcher: DynamicBatcher, upper: Upper, *texts: list[str]) -> list[Any]:
    """Returns the outputs of requests that wait together behind a first one."""
    first = asyncio.create_task(batcher.translate(["first"]))
    while not upper.batches:
        await asyncio.sleep(0.001)
    waiting = [asyncio.create_task(batcher.translate(request)) for request in texts]
    await asyncio.sleep(0.01)
    upper.release.set()
    return await asyncio.gather(first, *waiting, return_exceptions=True)


def test_what_waits_is_one_batch_of_at_most_the_limit() -> None:
    outputs, batches = run(lambda batcher, upper: after_the_first(batcher, upper, ["a"], ["b", "c"], ["d"]))
    assert outputs == [["FIRST"], ["A"], ["B", "C"], ["D"]]
    assert batches == [["first"], ["a", "b", "c"], ["d"]]


def test_a_failed_batch_fails_its_requests_alone() -> None:
    outputs, _ = run(lambda batcher, upper: after_the_first(batcher, upper, ["a"], ["boom"], ["c"], ["d"]))
    assert [isinstance(output, RuntimeError) for output in outputs] == [False, True, True, True, False]


@pytest.mark.parametrize(("query", "translated"), [("a", "A"), (["a", "b"], ["A", "B"])])
def test_the_route_is_that_of_libretranslate(query: Any, translated: Any) -> None:
    async def use(batcher: DynamicBatcher, upper: Upper) -> httpx.Response:
        upper.release.set()
        transport = httpx.ASGITransport(build_app(batcher))
        async with httpx.AsyncClient(transport=transport, base_url="http://peer") as client:
            return await client.post("/translate", json={"q": query, "source": "de", "target": "en", "format": "text"})

    answer, _ = run(use)
    assert (answer.status_code, answer.json()) == (200, {"translatedText": translated})
