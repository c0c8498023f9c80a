"""The models of a server: loading them, choosing one for a request, and running it off the event loop."""

from __future__ import annotations

import asyncio
import enum
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, Unpack

from starlette.requests import Request

from compressor.bundle import Manifest
from compressor.runtime.generator import Generator
from compressor.runtime.results import Result
from compressor.runtime.search_options import SearchOptions
from compressor.runtime.sources import Truncation
from compressor.text.tokenizer import Tokenizer
from serving.problems import Problem, ProblemItem
from serving.schemas import ModelInfo, Parameters
from serving.settings import Settings
from serving.worker import Worker

T = TypeVar("T")
_log = logging.getLogger("serving")


class Engine(Protocol):
    """What a server needs of a ``Generator``; tests put a small class in its place."""

    manifest: Manifest
    precision: str
    tokenizer: Tokenizer

    def generate(
        self, texts: Sequence[str], *, truncation: Truncation = "error", **search: Unpack[SearchOptions]
    ) -> list[Result]:
        """Results in the order of ``texts``."""

    def stream(self, text: str, *, truncation: Truncation = "error", **search: Unpack[SearchOptions]) -> Iterator[str]:
        """Pieces of one output, as they come."""


Load = Callable[[Path, Settings], Engine]


def load_bundle(path: Path, settings: Settings) -> Engine:
    """Loads a bundle as the settings say."""
    return Generator.load(
        path,
        precision=settings.precision,
        intra_threads=None if settings.threads is None else 1,
        inter_threads=settings.threads,
        expect_digest=settings.expect_digest,
        device=settings.device,
    )


class Phase(enum.Enum):
    """Where a server is in its life."""

    LOADING = "the models are loading"
    READY = "ready"
    LEAVING = "the server is shutting down"
    FAILED = "a model could not be loaded"


@dataclass(frozen=True)
class Model:
    """A loaded engine and what clients are told about it."""

    info: ModelInfo
    engine: Engine

    def search(self, asked: Parameters) -> SearchOptions:
        """Returns how to search for a request: what it asks for, or the model's defaults within the server's caps."""
        longest = min(self.engine.manifest.generation.max_new_tokens, self.info.max_new_tokens)
        return {
            "num_beams": asked.num_beams or 1,
            "max_new_tokens": asked.max_new_tokens or longest,
            "length_penalty": asked.length_penalty,
        }


class Service:
    """State of one server, kept in ``app.state.service``.

    Args:
        settings: What to serve, and limits.
        load: Makes an engine of a bundle folder.
    """

    def __init__(self, settings: Settings, load: Load = load_bundle) -> None:
        self.settings = settings
        self.worker = Worker(settings.queue_items)
        self.models: dict[str, Model] = {}
        self.phase = Phase.LOADING
        self.failure: Exception | None = None
        self._load = load

    async def load_models(self) -> None:
        """Loads every bundle and runs one warm-up through each; then the server is ready."""
        try:
            for path in self.settings.bundles:
                name = path.resolve().name
                self.models[name] = await self.worker.submit(functools.partial(self._load_one, name, path), 0)
                _log.info("loaded %s (%s)", name, self.models[name].info.precision)
        except Exception as error:
            _log.error("a model could not be loaded: %s", error)
            self.failure, self.phase = error, Phase.FAILED
            return
        if self.phase is Phase.LOADING:
            self.phase = Phase.READY

    def leave(self) -> None:
        """Turns readiness off; requests are still answered until the listener closes."""
        self.phase = Phase.LEAVING

    def require_ready(self) -> None:
        """Raises 503 unless the server wants traffic."""
        if self.phase is not Phase.READY:
            raise Problem(503, self.phase.value, headers={"Retry-After": "5"})

    def require_models(self) -> None:
        """Raises 503 unless all models are loaded."""
        if len(self.models) < len(self.settings.bundles):
            raise Problem(503, self.phase.value, headers={"Retry-After": "5"})

    def select(self, task: str, name: str | None, source: str | None = None, target: str | None = None) -> Model:
        """Returns the model that a request names, or the first that fits.

        Raises:
            Problem: 404 for an unknown model, 422 for a wrong task or language.
        """
        self.require_models()
        if name is not None and name not in self.models:
            raise Problem(404, "unknown model; /v1/models lists what is served: " + ", ".join(self.models))
        candidates = [self.models[name]] if name is not None else list(self.models.values())
        fitting = [model for model in candidates if model.info.task == task]
        if not fitting:
            served = sorted({model.info.task for model in candidates})
            raise Problem(422, errors=[ProblemItem(message=f"only {', '.join(served)} is served", pointer="/model")])
        return _by_language(fitting, source, target) if task == "translation" else fitting[0]

    async def run(self, request: Request, job: Callable[[], T], *, items: int, timeout_ms: int) -> T:
        """Runs ``job`` in the worker; it is dropped unbegun past the deadline or when the client is gone.

        Raises:
            Problem: 429 (queue full), 499 (client gone), 503 (closed) or 504 (deadline).
        """
        future = self.worker.submit(job, items)
        try:
            return await self.wait(request, future, timeout_ms)
        finally:
            future.cancel()

    async def wait(self, request: Request, awaited: asyncio.Future[T], timeout_ms: int) -> T:
        """Waits for ``awaited`` no longer than the client does, or the deadline allows; raises 499 or 504."""
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            both: set[asyncio.Future[T] | asyncio.Future[None]] = {awaited, gone}
            done, _ = await asyncio.wait(both, timeout=timeout_ms / 1000, return_when="FIRST_COMPLETED")
        finally:
            gone.cancel()
        if awaited in done:
            return awaited.result()
        if done:
            raise Problem(499, "the client closed the connection")
        raise deadline_passed(timeout_ms)

    def _load_one(self, name: str, path: Path) -> Model:
        engine = self._load(path, self.settings)
        engine.generate(["1"])
        return Model(_describe(name, engine, self.settings), engine)


def deadline_passed(timeout_ms: int) -> Problem:
    """Returns the 504."""
    return Problem(504, f"not finished within {timeout_ms} ms; send fewer or shorter texts, or raise timeout_ms")


def _describe(name: str, engine: Engine, settings: Settings) -> ModelInfo:
    manifest = engine.manifest
    longest = manifest.max_new_tokens
    return ModelInfo(
        id=name,
        task=manifest.task,
        source=manifest.source_language,
        target=manifest.target_language,
        precision=engine.precision,
        max_source_tokens=manifest.max_source_tokens,
        max_new_tokens=min(longest, settings.max_new_tokens or longest),
        max_num_beams=min(manifest.max_num_beams, settings.max_num_beams),
        max_items=settings.max_items,
    )


def _by_language(models: Sequence[Model], source: str | None, target: str | None) -> Model:
    served = ", ".join(dict.fromkeys(_pair(model) for model in models))
    fitting = list(models)
    for field, wanted in (("source", source), ("target", target)):
        if wanted is not None:
            # A bundle that does not say its languages takes what it is given.
            fitting = [model for model in fitting if (getattr(model.info, field) or wanted).lower() == wanted.lower()]
        if not fitting:
            raise Problem(422, errors=[ProblemItem(message=f"not served; pairs are {served}", pointer=f"/{field}")])
    if len({_pair(model) for model in fitting}) > 1:
        raise Problem(422, errors=[ProblemItem(message=f"say which; pairs are {served}", pointer="/source")])
    return fitting[0]


def _pair(model: Model) -> str:
    return f"{model.info.source or 'any'}-{model.info.target or 'any'}"


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
