"""An engine of a set speed and a server with it: ``python -m benchmarks.serving.paced --rate 50``.

Overload is measured on it, because its capacity is known and the same on every machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvicorn

from compressor.errors import TooLongError
from compressor.runtime.results import FinishReason
from compressor.runtime.sources import Source, Truncation
from compressor.runtime.streaming import Deltas
from compressor.text.letter_case import LetterCase
from serving.app import Server, build_app, listen
from serving.jobs import Job
from serving.settings import Settings

NAME = "paced"
LIMIT = 512
"""Tokens of a source and of an output; a character is a token, and so is the end."""
_EOS = 0


class PacedEngine:
    """Returns texts in upper case, at most ``rate`` of them a second, whatever the size of a batch."""

    def __init__(self, rate: float) -> None:
        self.manifest: Any = SimpleNamespace(
            task="translation",
            source_language="de",
            target_language="en",
            max_source_tokens=LIMIT,
            truncation="error",
            max_new_tokens=LIMIT,
            max_num_beams=1,
            default_max_new_tokens=lambda source_tokens, min_new_tokens: LIMIT,
        )
        self.precision = "int8"
        self.example = "a"
        self.letter_case = LetterCase()
        self._seconds = 1 / rate
        self._free_at = 0.0

    def encode(self, texts: Sequence[str], truncation: Truncation | None) -> list[Source]:
        """See ServingEngine."""
        sources = [[ord(character) + 1 for character in text] + [_EOS] for text in texts]
        lengths = tuple((index, len(ids)) for index, ids in enumerate(sources) if len(ids) > LIMIT)
        if lengths and truncation != "longest_first":
            raise TooLongError(lengths, limit=LIMIT)
        return [Source([*ids[: LIMIT - 1], _EOS] if len(ids) > LIMIT else ids, len(ids) > LIMIT) for ids in sources]

    def search(self, jobs: Sequence[Job]) -> list[list[int]]:
        """See ServingEngine."""
        # Time that a batch ends too late is the next one's, if it waits already: the rate holds on average.
        now = time.monotonic()
        start = self._free_at if now - self._free_at < self._seconds else now
        self._free_at = start + len(jobs) * self._seconds
        time.sleep(max(0.0, self._free_at - now))
        return [self._output(job) for job in jobs]

    def stream(self, job: Job) -> Deltas:
        """See ServingEngine."""
        (output,) = self.search([job])
        yield self.decode(output)
        return output

    def decode(self, token_ids: Sequence[int]) -> str:
        """See ServingEngine."""
        return "".join(chr(token - 1) for token in token_ids if token != _EOS)

    def finish_reason(self, token_ids: list[int], max_new_tokens: int) -> FinishReason:
        """See ServingEngine."""
        return "eos" if token_ids[-1:] == [_EOS] else "length"

    def _output(self, job: Job) -> list[int]:
        text = self.decode(job.source.token_ids).upper()
        return [*(ord(character) + 1 for character in text), _EOS][: job.max_new_tokens]


def serve_paced(rate: float, port: int = 0, **settings: Any) -> None:
    """Serves the engine on this machine until SIGTERM; prints where it listens."""
    values = Settings(bundles=[Path(NAME)], port=port, **settings)
    app = build_app(values, lambda *_: PacedEngine(rate))
    listener = listen(values.host, values.port)
    print(f"listening on http://{values.host}:{listener.getsockname()[1]}", file=sys.stderr, flush=True)
    config = uvicorn.Config(app, log_config=None, log_level="warning", access_log=False, ws="none")
    Server(config, app.state.service).run(sockets=[listener])


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser("python -m benchmarks.serving.paced", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=float, default=50.0, help="texts a second")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--queue-items", type=int, default=64, help="texts admitted and not yet answered")
    parser.add_argument(
        "--grace-seconds", type=float, default=0.0, help="time after SIGTERM before the listener closes"
    )
    options = parser.parse_args(arguments)
    serve_paced(options.rate, options.port, queue_items=options.queue_items, grace_seconds=options.grace_seconds)


if __name__ == "__main__":
    main()
