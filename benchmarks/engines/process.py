"""Runs each engine in a process of its own, so that its threads, caches and memory do not affect another's.

The parent sends one JSON line for each request and reads one JSON line back. Time is taken inside the worker process,
around the engine's call alone, so the pipe is not part of any result. `LocalHost` runs an engine in the worker process
or (in tests, and where nothing is timed) in this one; `ProcessHost` forwards calls to a `LocalHost` in a worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import IO, Any, NamedTuple, Protocol

from benchmarks.engines.base import EngineSpec
from benchmarks.engines.registry import import_engine
from benchmarks.measure import memory
from compressor import errors
from compressor.child_process import child_environment
from compressor.runtime.results import FinishReason


class EngineStopped(errors.CompressError):
    """An engine's process ended while it was in use: it crashed, or memory ran out."""


class Info(NamedTuple):
    """Properties of a loaded engine. ``load_s``: seconds to load the model, library import excluded."""

    parameters: int | None
    size_mb: float
    max_num_beams: int | None
    load_s: float


class Reply(NamedTuple):
    """The result of one call: its seconds, the texts, and the tokens of each.

    Why each ended, and how many sources were cut, are None where the engine does not tell.
    """

    seconds: float
    texts: list[str]
    tokens: list[int]
    finish_reasons: list[FinishReason] | None = None
    cut_sources: int | None = None


class Host(Protocol):
    """A loaded engine, here or in another process."""

    info: Info

    def translate(self, texts: Sequence[str], num_beams: int, **options: int | str) -> Reply:
        """One timed call; ``options`` are the engine's own."""
        ...

    def reset_peak(self) -> None:
        """Starts the peak of memory anew."""
        ...

    def memory_mb(self) -> float:
        """Peak resident set since `reset_peak`, less the resident set with only the library imported."""
        ...

    def close(self) -> None:
        """Ends the process, if there is one."""
        ...


Connect = Callable[[EngineSpec, int], Host]


class LocalHost:
    """Loads and runs an engine in this process."""

    def __init__(self, spec: EngineSpec, threads: int) -> None:
        load = import_engine(spec.engine)
        self._baseline = memory.resident_mb()
        start = time.perf_counter()
        self._engine = load(spec, threads)
        seconds = time.perf_counter() - start
        self.info = Info(self._engine.parameters, self._engine.size_mb, self._engine.max_num_beams, seconds)

    def translate(self, texts: Sequence[str], num_beams: int, **options: int | str) -> Reply:
        """See Host."""
        start = time.perf_counter()
        output = self._engine.translate(texts, num_beams=num_beams, **options)
        seconds = time.perf_counter() - start
        reasons = output.finish_reasons and list(output.finish_reasons())
        return Reply(seconds, list(output.texts), list(output.tokens), reasons, output.cut_sources)

    def reset_peak(self) -> None:
        """See Host."""
        memory.reset_peak()

    def memory_mb(self) -> float:
        """See Host."""
        return max(0.0, memory.peak_mb() - self._baseline)

    def close(self) -> None:
        """See Host."""


class ProcessHost:
    """Loads and runs an engine in a process of its own.

    Args:
        spec: what is loaded.
        threads: threads inside one operator.
        python: the interpreter, for engines that live in another environment.

    Raises:
        CompressError: the engine's own error, of the same class.
        EngineStopped: the process died; the message has the last line it printed.
    """

    def __init__(self, spec: EngineSpec, threads: int, python: str = sys.executable) -> None:
        self._name = spec.name
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the process)
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.engines.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=_environment(threads),
            text=True,
            encoding="utf-8",
        )
        try:
            self.info = Info(**self._ask("load", spec=spec.model_dump(), threads=threads))
        except BaseException:
            self.close()
            raise

    def translate(self, texts: Sequence[str], num_beams: int, **options: int | str) -> Reply:
        """See Host."""
        return Reply(**self._ask("translate", texts=list(texts), num_beams=num_beams, **options))

    def reset_peak(self) -> None:
        """See Host."""
        self._ask("reset_peak")

    def memory_mb(self) -> float:
        """See Host."""
        return float(self._ask("memory_mb")["mb"])

    def close(self) -> None:
        """See Host."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # the process died with a request in the pipe
                    stream.close()
        self._process.wait()

    def _ask(self, request: str, **arguments: Any) -> dict[str, Any]:
        """Sends a request and returns the answer. Raises the error in it, or EngineStopped."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            print(json.dumps({"request": request, **arguments}), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise EngineStopped(f"engine {self._name} stopped: {self._last_line()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise _revive(answer["error"], answer["message"], self._name)
        return answer

    def _last_line(self) -> str:
        """Returns the last line that the process printed, with its exit code."""
        self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return f"{lines[-1] if lines else 'no message'} (exit code {self._process.returncode})"


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Answers requests, in the worker process, until they end; an exception is an answer, too."""
    host: LocalHost | None = None
    for line in requests:
        message = json.loads(line)
        request = message.pop("request")
        answer: dict[str, Any] = {}
        try:
            if request == "load":
                host = LocalHost(EngineSpec(**message["spec"]), message["threads"])
                answer = host.info._asdict()
            elif host is None:
                raise errors.CompressError("nothing is loaded yet")
            elif request == "translate":
                answer = host.translate(**message)._asdict()
            elif request == "memory_mb":
                answer = {"mb": host.memory_mb()}
            else:
                host.reset_peak()
        except Exception as error:
            answer = {"error": type(error).__name__, "message": str(error)}
        print(json.dumps(answer), file=answers, flush=True)


def _revive(kind: str, message: str, engine: str) -> errors.CompressError:
    """The error that a worker process reported; one that is not the project's own names the engine."""
    known = getattr(errors, kind, None)
    if not (isinstance(known, type) and issubclass(known, errors.CompressError)):
        return errors.CompressError(f"engine {engine}: {kind}: {' '.join(message.split())}")
    try:
        return known(message)
    except TypeError:  # a class that wants more than the message
        return errors.CompressError(message)


def _environment(threads: int) -> dict[str, str]:
    """Environment variables that size thread pools and make this checkout importable."""
    pools = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return child_environment(**dict.fromkeys(pools, str(threads)), TOKENIZERS_PARALLELISM="false")


def main() -> None:
    """Runs the worker process: it answers on stdout, and what libraries print goes to stderr."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
