"""A server in a thread, on a real socket, with an engine of a few lines of Python."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from compressor.errors import TooLongError
from compressor.runtime.results import FinishReason
from compressor.runtime.sources import Source, Truncation
from compressor.runtime.streaming import Deltas
from compressor.text.letter_case import LetterCase
from serving.app import Server, build_app, listen, server_config
from serving.jobs import Job
from serving.settings import Settings


class EchoEngine:
    """Upper-cases words, a token a word. ``boom`` makes it fail, ``hold`` makes it wait until it is released.

    An output with ``loop`` is cut after two words, as one that repeats itself.
    """

    EOS = 0

    def __init__(self, task: str = "translation", source: str | None = "de", target: str | None = "en") -> None:
        self.manifest: Any = SimpleNamespace(
            task=task,
            source_language=source,
            target_language=target,
            max_source_tokens=9,
            truncation="error",
            max_new_tokens=6,
            max_num_beams=4,
            default_max_new_tokens=lambda source_tokens, min_new_tokens: 4,
        )
        self.precision = "int8"
        self.example = "1"
        self.letter_case = LetterCase()
        self.release = threading.Event()
        self.seen: list[str] = []
        self.options: dict[str, Any] = {}
        self._words: list[str] = [""]  # by token id; 0 is the end of sentence

    def encode(self, texts: Sequence[str], truncation: Truncation | None) -> list[Source]:
        sources = [self._encode(text) for text in texts]
        lengths = tuple((index, len(ids)) for index, ids in enumerate(sources) if len(ids) > 9)
        if lengths and truncation != "longest_first":
            raise TooLongError(lengths, limit=9)
        return [Source([*ids[:8], self.EOS] if len(ids) > 9 else ids, len(ids) > 9) for ids in sources]

    def search(self, jobs: Sequence[Job]) -> list[list[int]]:
        return [self._search(job) for job in jobs]

    def stream(self, job: Job) -> Deltas:
        output = self._search(job)
        for number, word in enumerate(self.decode(output).split()):
            if word == "MIDWAY":
                raise RuntimeError("the engine broke")
            if word == "SLOWLY":
                self.release.wait(10)
            yield f" {word}" if number else word
        return output

    def decode(self, token_ids: Sequence[int]) -> str:
        return " ".join(self._words[index] for index in token_ids if index != self.EOS).upper()

    def finish_reason(self, token_ids: list[int], max_new_tokens: int) -> FinishReason:
        if token_ids[-1] == self.EOS:
            return "eos"
        return "length" if len(token_ids) >= max_new_tokens else "repetition"

    def _encode(self, text: str) -> list[int]:
        words = text.split()
        self._words += words
        return [*range(len(self._words) - len(words), len(self._words)), self.EOS]

    def _search(self, job: Job) -> list[int]:
        text = " ".join(self._words[index] for index in job.source.token_ids[:-1])
        self.seen.append(text)
        self.options = {name: value for name, value in asdict(job.options).items() if value is not None}
        if "boom" in text:
            raise RuntimeError("the engine broke")
        if "hold" in text:
            self.release.wait(10)
        output = job.source.token_ids[: job.max_new_tokens]
        return output[:2] if "loop" in text else output


class Running:
    """A running server with its engines and a client."""

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
        """Starts a request in another thread; returns once it is admitted."""
        before = self.service.batcher.items
        thread = threading.Thread(target=self._quietly, args=(inputs, fields))
        thread.start()
        eventually(lambda: self.service.batcher.items > before)
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
    settings = {"threads": 1, **settings}  # while one text holds the thread, what follows it waits
    values = Settings(bundles=[Path(name) for name in engines], **settings)
    app = build_app(values, load or (lambda path, _: engines[path.name]))
    listener = listen("127.0.0.1", 0)
    server = Server(server_config(app, values), app.state.service)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        eventually(lambda: server.started)
        port = listener.getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as client:
            if ready:
                eventually(lambda: client.get("/readyz").status_code == 200)
            yield Running(client, server, engines)
    finally:
        for engine in engines.values():
            engine.release.set()
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Returns a function that starts a server with these settings; it stops with the test."""
    with contextlib.ExitStack() as stack:

        def begin(engines: dict[str, EchoEngine] | None = None, **settings: Any) -> Running:
            return stack.enter_context(running(engines or {"echo": EchoEngine()}, **settings))

        yield begin


@pytest.fixture(scope="module")
def pairs() -> Iterator[Running]:
    """A server of de-en, en-de and de-fr that all tests of a module share: French is a target only."""
    languages = [("de", "en"), ("en", "de"), ("de", "fr")]
    with running({"-".join(pair): EchoEngine("translation", *pair) for pair in languages}) as started:
        yield started


@pytest.fixture(scope="module")
def running_server() -> Callable[..., contextlib.AbstractContextManager[Running]]:
    """Starts a server of one engine with these settings, for a fixture that tests of a module share."""
    return lambda **settings: running({"echo": EchoEngine()}, **settings)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """A server that all tests of a module share."""
    with running({"echo": EchoEngine()}) as started:
        yield started


@pytest.fixture
def make_engine() -> type[EchoEngine]:
    return EchoEngine


@pytest.fixture
def wait_until() -> Callable[..., None]:
    return eventually
