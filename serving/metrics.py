"""What the server counts, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, generate_latest

from compressor.runtime.results import FinishReason, Result


class Metrics:
    """Counters of one server. Labels hold names of models and of reasons, nothing of clients or texts."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._outputs = Counter(
            "compress_outputs",
            "Outputs by the reason why they ended; length and repetition are not the whole text.",
            ("model", "finish_reason"),
            registry=self._registry,
        )

    def add_model(self, model: str) -> None:
        """Starts the counters of a model at 0."""
        for reason in get_args(FinishReason):
            self._outputs.labels(model, reason)

    def count(self, model: str, results: Iterable[Result]) -> None:
        """Counts the outputs of a request."""
        for result in results:
            self._outputs.labels(model, result.finish_reason).inc()

    def text(self) -> bytes:
        """Returns all counters as a scraper reads them."""
        return generate_latest(self._registry)
