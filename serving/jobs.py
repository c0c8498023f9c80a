"""A job is one sentence on its way through the server; the engine is what runs jobs. Nothing here knows of HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from compressor.bundle import Manifest
from compressor.runtime.results import FinishReason
from compressor.runtime.sources import Source, Truncation
from compressor.runtime.streaming import Deltas
from compressor.text.letter_case import LetterCase


class JobError(Exception):
    """Base of the reasons why a job is not admitted or has no result. ``str(error)`` is one line for the client."""


class QueueFull(JobError):
    """The queue has no room for the jobs of a request, counted in ``unit``."""

    def __init__(self, waiting: int, added: int, capacity: int, unit: str = "texts") -> None:
        super().__init__(f"the queue is full: {waiting} {unit} wait, {added} more exceed {capacity}; try later")


class DeadlineExceeded(JobError):
    """The job was not finished in time."""

    def __init__(self, timeout_ms: int) -> None:
        super().__init__(f"not finished within {timeout_ms} ms; send fewer or shorter texts, or raise timeout_ms")


class Draining(JobError):
    """The server is shutting down and takes no more jobs."""

    def __init__(self) -> None:
        super().__init__("the server is shutting down")


class WorkerDead(JobError):
    """The inference thread has ended; only a restart of the server helps."""

    def __init__(self) -> None:
        super().__init__("the inference thread of this server has ended; the server must be restarted")


class ClientGone(JobError):
    """The client closed the connection before its jobs were finished."""

    def __init__(self) -> None:
        super().__init__("the client closed the connection")


class Deadline(NamedTuple):
    """A point in time, and the timeout that it was made from."""

    timeout_ms: int
    expires_at: float
    """On the clock of ``time.monotonic``, in seconds."""

    @classmethod
    def after(cls, timeout_ms: int) -> Deadline:
        """Returns the deadline that lies ``timeout_ms`` from now."""
        return cls(timeout_ms, time.monotonic() + timeout_ms / 1000)

    def seconds_left(self) -> float:
        """Returns the time until the deadline; negative once it has passed."""
        return self.expires_at - time.monotonic()


@dataclass(frozen=True)
class JobOptions:
    """How to search for the output of one sentence."""

    num_beams: int
    max_new_tokens: int
    length_penalty: float | None = None
    """None is the bundle's default, here and below."""
    min_new_tokens: int | None = None
    no_repeat_ngram_size: int | None = None
    limit_of_source: Callable[[int, int | None], int] | None = None
    """Length of a source in tokens to a second limit on its output; None: ``max_new_tokens`` alone, which was asked
    for."""


@dataclass(frozen=True)
class Job:
    """One sentence, or one text that is read whole, to generate an output for.

    Attributes:
        source: Its token ids, within the model's limit, and whether they were truncated.
        options: How to search.
        deadline: The job does not begin after it.
        on_delta: For a streamed output: called in the inference thread with each piece of text; returns whether more
            pieces are wanted. None: the output is not streamed.
        future: Token ids of the output, end of sentence included; an empty list where a stream was stopped. To cancel
            it drops a job that has not begun.
        places: Places that it occupies in the queue, which counts texts: 1 for the last sentence of a text, else 0.
        created_at: On the clock of ``time.monotonic``, in seconds.
    """

    source: Source
    options: JobOptions
    deadline: Deadline
    on_delta: Callable[[str], bool] | None = None
    future: Future[list[int]] = field(default_factory=Future)
    places: int = 1
    created_at: float = field(default_factory=time.monotonic)

    @property
    def max_new_tokens(self) -> int:
        """Longest output of this source."""
        limit, of_source = self.options.max_new_tokens, self.options.limit_of_source
        if of_source is None:
            return limit
        return min(limit, of_source(len(self.source.token_ids), self.options.min_new_tokens))


class ServingEngine(Protocol):
    """What a server needs of a model: texts to token ids, jobs to outputs. Methods may be called from any thread."""

    manifest: Manifest
    precision: str
    example: str
    """A text that ``encode`` takes, to warm up with."""
    letter_case: LetterCase
    """Reads sentences in capitals, and the like, in the usual letter case."""

    def encode(self, texts: Sequence[str], truncation: Truncation | None) -> list[Source]:
        """Returns the token ids of each text.

        Raises:
            TooLongError: texts are over the model's limit, and ``truncation`` is ``error``.
            InputError: a text is not valid for the model.
        """

    def search(self, jobs: Sequence[Job]) -> list[list[int]]:
        """Returns the token ids of each job's best output, up to a loop.

        Args:
            jobs: One batch, of any requests. They have one ``num_beams`` and one ``no_repeat_ngram_size``; the other
                options may differ.
        """

    def stream(self, job: Job) -> Deltas:
        """Yields the text of a job's output in pieces, as they are decoded, and returns its token ids."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """Returns the text of output token ids."""

    def finish_reason(self, token_ids: list[int], max_new_tokens: int) -> FinishReason:
        """Returns why an output of ``search`` ended: with an end of sentence, at ``max_new_tokens``, or at a loop."""
