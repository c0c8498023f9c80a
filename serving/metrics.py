"""What the server counts, in the text format of Prometheus."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextvars import ContextVar
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from compressor.runtime.results import FinishReason, Result
from serving.schemas import ModelInfo
from serving.turns import BatchRecord

WORKERS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable of the folder in which the workers of a server count together."""
chosen_model: ContextVar[ModelInfo | None] = ContextVar("chosen_model", default=None)
"""The model that the current request runs on."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_TOKENS = (8, 32, 128, 512, 1024, 2048, 4096, 8192)


class Metrics:
    """Counters of one server. Labels hold names of routes, models and reasons, nothing of clients or texts."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._durations = Histogram(
            "http_server_request_duration_seconds",
            "Time from a request's head to the end of its answer.",
            ("http_request_method", "http_route", "http_response_status_code"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._requests = Counter(
            "compress_requests",
            "Requests by model and outcome, which is ok or why there is no output.",
            ("model", "task", "outcome"),
            registry=registry,
        )
        self._failures = Counter(
            "compress_request_failures",
            "Requests without an output; the model is empty where none was chosen.",
            ("model", "reason"),
            registry=registry,
        )
        self._outputs = Counter(
            "compress_outputs",
            "Outputs by the reason why they ended; length and repetition are not the whole text.",
            ("model", "finish_reason"),
            registry=registry,
        )
        self._input_tokens = Counter("compress_input_tokens", "Source tokens of answered texts.", registry=registry)
        self._output_tokens = Counter("compress_output_tokens", "Tokens of outputs.", registry=registry)
        self._waits = Histogram(
            "compress_queue_wait_seconds", "Time of a sentence in the queue.", buckets=_SECONDS, registry=registry
        )
        self._sizes = Histogram("compress_batch_size", "Sentences of a batch.", buckets=_SIZES, registry=registry)
        self._tokens = Histogram(
            "compress_batch_tokens", "Source tokens of a batch, padding included.", buckets=_TOKENS, registry=registry
        )
        self._inference = Histogram(
            "compress_inference_seconds", "Time of a batch in the model.", buckets=_SECONDS, registry=registry
        )
        self._inflight = _gauge("compress_inflight", "Requests that are being answered.", registry)
        self._queue_requests = _gauge("compress_queue_requests", "Texts admitted and not yet answered.", registry)
        self._queue_tokens = _gauge("compress_queue_tokens", "Source tokens admitted and not yet answered.", registry)
        self._models = Gauge(
            "compress_model_info",
            "1 for each model that is served, 0 for one that was replaced.",
            ("model", "task", "source", "target", "precision"),
            registry=registry,
            multiprocess_mode="livemax",
        )

    def add_model(self, model: ModelInfo) -> None:
        """Starts the counters of a model at 0."""
        self._models.labels(model.id, model.task, model.source or "", model.target or "", model.precision).set(1)
        self._requests.labels(model.id, model.task, "ok")
        for reason in get_args(FinishReason):
            self._outputs.labels(model.id, reason)

    def remove_model(self, model: ModelInfo) -> None:
        """Says that a model is served no longer; its counters stay."""
        self._models.labels(model.id, model.task, model.source or "", model.target or "", model.precision).set(0)

    def begin_request(self) -> None:
        """Counts a request in flight, which has not chosen a model."""
        chosen_model.set(None)
        self._inflight.inc()

    def end_request(self, method: str, route: str, status: int, seconds: float, failure: str | None) -> None:
        """Counts the end of a request.

        Args:
            method: HTTP method.
            route: Template of the route; empty if no route has the path.
            status: HTTP status; 0 if the answer never began.
            seconds: Time that it took.
            failure: Why there is no output.
        """
        self._inflight.dec()
        self._durations.labels(method if method in _METHODS else "_OTHER", route, status).observe(seconds)
        model = chosen_model.get()
        if model is not None:
            self._requests.labels(model.id, model.task, failure or "ok").inc()
        if failure is not None:
            self._failures.labels(model.id if model is not None else "", failure).inc()

    def count(self, model: str, results: Iterable[Result]) -> None:
        """Counts the outputs of a request."""
        for result in results:
            self._outputs.labels(model, result.finish_reason).inc()
            self._input_tokens.inc(result.input_tokens)
            self._output_tokens.inc(result.output_tokens)

    def count_batch(self, batch: BatchRecord) -> None:
        """Counts a batch, in the thread that ran it."""
        for wait in batch.waits:
            self._waits.observe(wait)
        self._sizes.observe(len(batch.waits))
        self._tokens.observe(batch.tokens)
        self._inference.observe(batch.seconds)

    def set_queue(self, texts: int, tokens: int) -> None:
        """Sets the gauges of the queue."""
        self._queue_requests.set(texts)
        self._queue_tokens.set(tokens)

    def text(self) -> bytes:
        """Returns all counters, of all workers, as a scraper reads them."""
        folder = os.environ.get(WORKERS_FOLDER)
        if folder is None:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together, folder)  # type: ignore[no-untyped-call]
        return generate_latest(together)


def _gauge(name: str, description: str, registry: CollectorRegistry) -> Gauge:
    """Returns a gauge of which a server with several workers shows the sum."""
    return Gauge(name, description, registry=registry, multiprocess_mode="livesum")
