"""The models of a server: loading them, and choosing one for a request."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from compressor.runtime.generator import Generator
from compressor.runtime.results import FinishReason
from compressor.runtime.search_options import SearchOptions
from compressor.runtime.sources import Source, Truncation
from compressor.runtime.streaming import Deltas
from compressor.runtime.threads import choose_threads
from compressor.text.guards import cut_loop
from serving.batcher import Batcher
from serving.jobs import Deadline, Job, JobOptions, ServingEngine
from serving.metrics import Metrics, chosen_model
from serving.schemas import ModelInfo, Parameters
from serving.settings import Settings, bundle_name

_log = logging.getLogger("serving")


class NotReady(Exception):
    """The models are not loaded, or the server is shutting down."""


class UnknownModel(Exception):
    """A request names a model that is not served."""

    def __init__(self, served: Sequence[str]) -> None:
        super().__init__("unknown model; /v1/models lists what is served: " + ", ".join(served))


class NotServed(Exception):
    """No model does the task or has the languages of a request; ``field`` is the field that says which."""

    def __init__(self, field: Literal["model", "source", "target"], message: str) -> None:
        super().__init__(message)
        self.field = field


class BundleEngine:
    """The engine of an exported bundle."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self.manifest = generator.manifest
        self.precision = generator.precision
        self.example = generator.tokenizer.example
        self.letter_case = generator.letter_case

    def encode(self, texts: Sequence[str], truncation: Truncation | None) -> list[Source]:
        """See ServingEngine."""
        return self._generator.encode(texts, truncation)

    def search(self, jobs: Sequence[Job]) -> list[list[int]]:
        """See ServingEngine."""
        sources = [job.source.token_ids for job in jobs]
        size = len(sources) * max(map(len, sources))  # no second division into batches
        outputs = self._generator.generate_ids(sources, batch_tokens=size, **self._options(jobs))
        return [cut_loop(output, source) for output, source in zip(outputs, sources, strict=True)]

    def stream(self, job: Job) -> Deltas:
        """See ServingEngine; a search with several beams yields one piece."""
        return self._generator.stream_ids(job.source.token_ids, **self._options([job]))

    def decode(self, token_ids: Sequence[int]) -> str:
        """See ServingEngine."""
        return self._generator.tokenizer.decode(token_ids)

    def finish_reason(self, token_ids: list[int], max_new_tokens: int) -> FinishReason:
        """See ServingEngine."""
        return self._generator.finish_reason(token_ids, max_new_tokens)

    def _options(self, jobs: Sequence[Job]) -> SearchOptions:
        """The options of a batch of jobs, which have one number of beams and one size of blocked n-grams."""
        options, rules = [job.options for job in jobs], self.manifest.generation
        return {
            "num_beams": options[0].num_beams,
            "max_new_tokens": [job.max_new_tokens for job in jobs],
            "min_new_tokens": [_chosen(one.min_new_tokens, rules.min_new_tokens) for one in options],
            "no_repeat_ngram_size": options[0].no_repeat_ngram_size,
            "length_penalty": [_chosen(one.length_penalty, rules.length_penalty) for one in options],
        }


Number = TypeVar("Number", int, float)


def _chosen(asked: Number | None, default: Number) -> Number:
    return default if asked is None else asked


Load = Callable[[Path, Settings], ServingEngine]


def load_bundle(path: Path, settings: Settings) -> ServingEngine:
    """Returns the engine of a bundle folder, loaded as the settings say; a search runs in the thread that calls it."""
    generator = Generator.load(
        path,
        precision=settings.precision,
        intra_threads=1,
        inter_threads=1,
        expect_digest=settings.expect_digest,
        device=settings.device,
    )
    return BundleEngine(generator)


@dataclass(frozen=True)
class ServedModel:
    """A loaded engine, and what clients are told about it."""

    info: ModelInfo
    engine: ServingEngine

    def options(self, asked: Parameters) -> JobOptions:
        """Returns the search options of a request, with the model's defaults, within the server's limits."""
        return JobOptions(
            asked.num_beams or 1,
            asked.max_new_tokens or self.info.max_new_tokens,
            asked.length_penalty,
            asked.min_new_tokens,
            asked.no_repeat_ngram_size,
            None if asked.max_new_tokens else self.engine.manifest.default_max_new_tokens,
        )


class Phase(enum.Enum):
    """Stage in the life of a server; the value is told to clients."""

    LOADING = "the models are loading"
    READY = "ready"
    LEAVING = "the server is shutting down"
    FAILED = "a model could not be loaded"


class Service:
    """State of one server, in ``app.state.service``: its settings, its models, their batcher, and what it counts.

    Args:
        settings: Bundles and limits.
        load: Returns the engine of a bundle folder.
    """

    def __init__(self, settings: Settings, load: Load = load_bundle) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.batcher = Batcher(
            queue_items=settings.queue_items // settings.workers,
            queue_tokens=settings.queue_tokens // settings.workers,
            batch_tokens=settings.batch_tokens,
            threads=_threads(settings),
            on_batch=self.metrics.count_batch,
        )
        self.models: dict[str, ServedModel] = {}
        self.phase = Phase.LOADING
        self.failure: Exception | None = None
        self._load = load
        self._reloading = False

    async def load_models(self) -> None:
        """Loads every bundle and warms it up with one job; then the server is ready.

        An error ends the loading and becomes ``failure``, which whoever runs the server reports.
        """
        try:
            for path in self.settings.bundles:
                model = await self._load_model(path)
                self.metrics.add_model(model.info)
                self.models[model.info.id] = model
        except Exception as error:
            self.failure, self.phase = error, Phase.FAILED
            return
        if self.phase is Phase.LOADING:
            self.phase = Phase.READY

    async def reload(self) -> None:
        """Loads every bundle again, then answers with the new models; requests that have begun end with the old ones.

        An error is logged, and the old models stay.
        """
        if self.phase is not Phase.READY or self._reloading:
            _log.warning("not reloaded: the models are being loaded, or the server ends")
            return
        self._reloading = True
        try:
            models = [await self._load_model(path) for path in self.settings.bundles]
            for old in self.models.values():
                self.metrics.remove_model(old.info)
            for model in models:
                self.metrics.add_model(model.info)
            self.models = {model.info.id: model for model in models}
            _log.info("reloaded %s", ", ".join(self.models))
        except Exception as error:
            _log.error("not reloaded, the models stay as they were: %s", error)
        finally:
            self._reloading = False

    def show_queue(self) -> None:
        """Sets the gauges of the queue to what it holds now."""
        self.metrics.set_queue(self.batcher.items, self.batcher.tokens)

    def leave(self) -> None:
        """Turns readiness off; requests are still answered until the listener closes."""
        self.phase = Phase.LEAVING

    def require_ready(self) -> None:
        """Raises NotReady unless the server wants traffic."""
        if self.phase is not Phase.READY:
            raise NotReady(self.phase.value)

    def require_models(self) -> None:
        """Raises NotReady unless all models are loaded."""
        if len(self.models) < len(self.settings.bundles):
            raise NotReady(self.phase.value)

    def select(self, task: str, name: str | None, source: str | None = None, target: str | None = None) -> ServedModel:
        """Returns the model that a request names, or the first that fits.

        Raises:
            NotReady: the models are not loaded.
            UnknownModel: no model has this name.
            NotServed: no model does this task or has these languages.
        """
        self.require_models()
        if name is not None and name not in self.models:
            raise UnknownModel(list(self.models))
        candidates = [self.models[name]] if name is not None else list(self.models.values())
        fitting = [model for model in candidates if model.info.task == task]
        if not fitting:
            served = sorted({model.info.task for model in candidates})
            raise NotServed("model", f"only {', '.join(served)} is served")
        model = _by_language(fitting, source, target) if task == "translation" else fitting[0]
        chosen_model.set(model.info)
        return model

    async def _load_model(self, path: Path) -> ServedModel:
        """Loads a bundle and runs one job."""
        name = bundle_name(path)
        engine = await asyncio.to_thread(self._load, path, self.settings)
        model = ServedModel(_describe(name, engine, self.settings), engine)
        await self._warm_up(model)
        _log.info("loaded %s (%s)", name, model.info.precision)
        return model

    async def _warm_up(self, model: ServedModel) -> None:
        (source,) = model.engine.encode([model.engine.example], "longest_first")
        job = Job(source, model.options(Parameters()), Deadline.after(self.settings.max_timeout_ms))
        await asyncio.to_thread(model.engine.search, [job])  # the queue may be full


def _threads(settings: Settings) -> int:
    """Returns the number of batches that run at the same time, with one thread each, whatever their models."""
    if settings.device == "cuda" and settings.threads is None:
        return 1
    return choose_threads(1, settings.threads)[1]


def _describe(name: str, engine: ServingEngine, settings: Settings) -> ModelInfo:
    manifest = engine.manifest
    return ModelInfo(
        id=name,
        task=manifest.task,
        source=manifest.source_language,
        target=manifest.target_language,
        precision=engine.precision,
        max_source_tokens=manifest.max_source_tokens,
        max_new_tokens=min(manifest.max_new_tokens, settings.max_new_tokens or manifest.max_new_tokens),
        max_num_beams=min(manifest.max_num_beams, settings.max_num_beams),
        max_items=settings.max_items,
    )


def _by_language(models: Sequence[ServedModel], source: str | None, target: str | None) -> ServedModel:
    """Returns the first model with these languages; None stands for the only language that is served."""
    served = ", ".join(dict.fromkeys(_pair(model) for model in models))
    fitting = [model for model in models if _matches(model.info.source, source)]
    if not fitting:
        raise NotServed("source", f"not served; pairs are {served}")
    fitting = [model for model in fitting if _matches(model.info.target, target)]
    if not fitting:
        raise NotServed("target", f"not served; pairs are {served}")
    if len({_pair(model) for model in fitting}) > 1:
        raise NotServed("source", f"say which; pairs are {served}")
    return fitting[0]


def _matches(language: str | None, requested: str | None) -> bool:
    """A bundle that does not name its language accepts any."""
    return language is None or requested is None or language.lower() == requested.lower()


def _pair(model: ServedModel) -> str:
    return f"{model.info.source or 'any'}-{model.info.target or 'any'}"
