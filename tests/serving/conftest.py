"""A server in a thread, on a real socket, over an engine that is a few lines of Python."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import uvicorn

from compressor.errors import TooLongError
from compressor.runtime.generator import Result
from serving.app import Server, build_app
from serving.settings import Settings


class WordTokenizer:
    """A token a word, and an end of sentence."""

    def encode_source(self, text: str) -> list[int]:
        return [*range(len(text.split())), 0]


class EchoEngine:
    """Upper-cases words. ``boom`` makes it fail, ``hold`` makes it wait until it is released."""

    def __init__(self, task: str = "translation", source: str | None = "de", target: str | None = "en") -> None:
        self.manifest: Any = SimpleNamespace(
            task=task,
            source_language=source,
            target_language=target,
            max_source_tokens=9,
            max_new_tokens=6,
            max_num_beams=4,
            generation=SimpleNamespace(max_new_tokens=4),
        )
        self.precision = "int8"
        self.tokenizer: Any = WordTokenizer()
        self.release = threading.Event()
        self.seen: list[str] = []
        self.search: dict[str, Any] = {}

    def generate(
        self, texts: Sequence[str], *, max_new_tokens: int | None = None, truncation: str = "error", **search: Any
    ) -> list[Result]:
        self.search = search
        return [self._one(text, max_new_tokens or 4, truncation) for text in texts]

    def stream(
        self, text: str, *, max_new_tokens: int | None = None, truncation: str = "error", **search: Any
    ) -> Iterator[str]:
        self.search = search
        for number, word in enumerate(self._one(text, max_new_tokens or 4, truncation).text.split()):
            if word == "MIDWAY":
                raise RuntimeError("the engine broke")
            if word == "SLOWLY":
                self.release.wait(10)
            yield f" {word}" if number else word

    def _one(self, text: str, limit: int, truncation: str) -> Result:
        self.seen.append(text)
        if "boom" in text:
            raise RuntimeError("the engine broke")
        if "hold" in text:
            self.release.wait(10)
        length = len(self.tokenizer.encode_source(text))
        if length > 9 and truncation == "error":
            raise TooLongError([(0, length)], limit=9)
        words = text.split()[:8]
        return Result(
            text=" ".join(words[:limit]).upper(),
            token_ids=[],
            input_tokens=min(length, 9),
            output_tokens=min(len(words) + 1, limit),
            truncated=length > 9,
            finish_reason="eos" if len(words) < limit else "length",
        )


class Running:
    """A client of a running server, its engines, and its state."""

    def __init__(self, client: httpx.Client, server: Server, engines: dict[str, EchoEngine]) -> None:
        self.client = client
        self.server = server
        self.service = server.service
        self.engines = engines

    @property
    def engine(self) -> EchoEngine:
        return next(iter(self.engines.values()))

    def translate(self, inputs: Any, **fields: Any) -> httpx.Response:
        return self.client.post("/v1/translate", json={"inputs": inputs, **fields})

    def post(self, content: Any, path: str = "/v1/translate", **headers: str) -> httpx.Response:
        return self.client.post(path, content=content, headers={"content-type": "application/json", **headers})

    def background(self, inputs: Any, **fields: Any) -> threading.Thread:
        """A request from another thread; returns once the engine or the queue has it."""
        before = self.service.worker.items
        thread = threading.Thread(target=self._quietly, args=(inputs, fields))
        thread.start()
        eventually(lambda: self.service.worker.items > before)
        return thread

    def _quietly(self, inputs: Any, fields: dict[str, Any]) -> None:
        with httpx.Client(base_url=self.client.base_url, trust_env=False, timeout=20) as client:
            client.post("/v1/translate", json={"inputs": inputs, **fields})


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


@contextlib.contextmanager
def running(engines: dict[str, EchoEngine], ready: bool = True, load: Any = None, **settings: Any) -> Iterator[Running]:
    values = Settings(bundles=[Path(name) for name in engines], **settings)
    app = build_app(values, load or (lambda path, _: engines[path.name]))
    config = uvicorn.Config(app, port=0, log_config=None, access_log=False, ws="none")
    server = Server(config, app.state.service)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as client:
            if ready:
                eventually(lambda: client.get("/readyz").status_code == 200)
            yield Running(client, server, engines)
    finally:
        for engine in engines.values():
            engine.release.set()
        server.should_exit = True
        thread.join()


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Starts servers that stop with the test: ``start(setting=value)``."""
    with contextlib.ExitStack() as stack:

        def begin(engines: dict[str, EchoEngine] | None = None, **settings: Any) -> Running:
            return stack.enter_context(running(engines or {"echo": EchoEngine()}, **settings))

        yield begin


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """One server for all tests of a module that leave it as it was."""
    with running({"echo": EchoEngine()}) as started:
        yield started


@pytest.fixture
def make_engine() -> type[EchoEngine]:
    return EchoEngine


@pytest.fixture
def wait_until() -> Callable[..., None]:
    return eventually
