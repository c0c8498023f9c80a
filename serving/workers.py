"""Several processes that answer the connections of one listener, and the supervisor that restarts them."""

from __future__ import annotations

import logging
import multiprocessing
import os
import secrets
import signal
import socket
import tempfile
import threading
import time
from multiprocessing.connection import Connection, wait
from multiprocessing.managers import BaseManager
from typing import Any

from prometheus_client.multiprocess import mark_process_dead

from compressor import errors
from compressor.errors import CompressError
from compressor.processors import available_cpus
from serving import logs
from serving.app import Server, announce, listen, run, serve
from serving.metrics import WORKERS_FOLDER
from serving.rate_limits import RateLimits
from serving.settings import Settings

_SPAWN = multiprocessing.get_context("spawn")  # a forked process inherits threads' locks but not the threads
_TICK_SECONDS = 0.2
_QUICK_SECONDS = 10.0
"""A worker that ends sooner than that is restarted after a pause."""
_LAST_WORDS_SECONDS = 0.5
"""Time in which a broken worker answers the requests that fail with it."""
_log = logging.getLogger("serving.workers")


class _Shared(BaseManager):
    """Lends the supervisor's rate limits to the workers."""


def serve_with_workers(settings: Settings) -> None:
    """Serves with ``settings.workers`` processes until SIGTERM or Ctrl-C; with one, in this process.

    Raises:
        ConfigError: the address cannot be listened on.
        CompressError: a bundle cannot be loaded.
    """
    if settings.workers == 1:
        return serve(settings)
    logs.configure(settings.log_format, settings.log_level)
    listener = listen(settings.host, settings.port)
    announce(listener)
    with tempfile.TemporaryDirectory(prefix="compress-metrics-") as folder:
        os.environ[WORKERS_FOLDER] = folder  # read by prometheus_client when a worker imports it
        try:
            Supervisor(settings, listener, folder).run()
        finally:
            del os.environ[WORKERS_FOLDER]
            listener.close()


class Supervisor:
    """Starts workers, restarts those that end, and passes signals on.

    Args:
        settings: Of the whole server; each worker takes its share.
        listener: The socket whose connections the workers accept.
        folder: Where the workers count for ``/metrics``.
    """

    def __init__(self, settings: Settings, listener: socket.socket, folder: str) -> None:
        self._settings, self._listener, self._folder = share(settings), listener, folder
        self._limits = _lend(RateLimits())
        self._workers = [_Worker() for _ in range(settings.workers)]
        self._signals: list[int] = []
        self._leaving = False

    def run(self) -> None:
        """Returns when all workers have ended after a signal; raises the error of a bundle that cannot be loaded."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda received, _: self._signals.append(received))
        try:
            while not self._leaving or any(worker.is_alive() for worker in self._workers):
                for worker in self._workers:
                    self._watch(worker)
                while self._signals:
                    self._pass_on(self._signals.pop(0))
                time.sleep(_TICK_SECONDS)
        finally:
            for worker in self._workers:
                worker.kill()

    def _watch(self, worker: _Worker) -> None:
        """Starts a worker that is not running, after a pause if it ended soon."""
        if worker.is_alive():
            return
        if worker.process is not None:
            mark_process_dead(worker.process.pid, self._folder)  # type: ignore[no-untyped-call]
            failure = worker.end()
            if failure is not None:
                raise failure
            if not self._leaving:
                _log.error("a worker has ended, with code %s; another one starts", worker.exitcode)
        if not self._leaving and time.monotonic() >= worker.may_start_at:
            worker.start(self._settings, self._listener, self._limits)

    def _pass_on(self, number: int) -> None:
        """Ends or reloads all workers."""
        self._leaving = self._leaving or number != signal.SIGHUP
        for worker in self._workers:
            if worker.is_alive():
                os.kill(worker.process.pid, number)


class _Worker:
    """A place for a process: the one that runs, or the next."""

    def __init__(self) -> None:
        self.process: Any = None
        self.exitcode: int | None = None
        self.may_start_at = 0.0
        self._failures: Connection | None = None
        self._pause = 0.0

    def is_alive(self) -> bool:
        return self.process is not None and self.process.is_alive()

    def start(self, settings: Settings, listener: socket.socket, limits: tuple[str, bytes]) -> None:
        """Starts the process."""
        self._failures, other = _SPAWN.Pipe(duplex=False)
        self.process = _SPAWN.Process(target=_work, args=(settings, listener, limits, other), name="worker")
        self.process.start()
        other.close()
        self._started_at = time.monotonic()

    def end(self) -> CompressError | None:
        """Clears the place of a process that has ended; returns the error that kept it from loading a bundle."""
        assert self._failures is not None
        self.process.join()
        self.exitcode, self.process = self.process.exitcode, None
        ran = time.monotonic() - self._started_at
        self._pause = min(30.0, 2 * self._pause + 1) if ran < _QUICK_SECONDS else 0.0
        self.may_start_at = time.monotonic() + self._pause
        try:
            failure = self._failures.recv()
        except EOFError:  # it ended without a word
            failure = None
        self._failures.close()
        return None if failure is None else getattr(errors, failure[0], CompressError)(failure[1])

    def kill(self) -> None:
        """Ends the process at once."""
        if self.is_alive():
            self.process.kill()
            self.process.join()


def share(settings: Settings) -> Settings:
    """Returns the settings of each worker: its part of the processors. The batcher takes its part of the queue."""
    threads = settings.threads or max(1, available_cpus() // settings.workers)
    return settings.model_copy(update={"threads": threads})


def _lend(limits: RateLimits) -> tuple[str, bytes]:
    """Answers the workers' questions in a thread; returns the address and the key."""
    key = secrets.token_bytes(32)
    _Shared.register("limits", callable=lambda: limits)
    server = _Shared(authkey=key).get_server()
    threading.Thread(target=server.serve_forever, name="rate-limits", daemon=True).start()
    return str(server.address), key


def _borrow(address: str, key: bytes) -> Any:
    """Returns a proxy of the supervisor's rate limits."""
    _Shared.register("limits")
    manager = _Shared(address=address, authkey=key)
    manager.connect()
    return manager.limits()  # type: ignore[attr-defined]


class WorkerServer(Server):
    """A server that ends at once when its inference has ended or is stuck, so that another one starts."""

    _broken_at: float | None = None

    async def on_tick(self, counter: int) -> bool:
        """See Server."""
        batcher = self.service.batcher
        if batcher.is_dead or batcher.busy_seconds() > self.service.settings.stuck_seconds:
            self._broken_at = self._broken_at or time.monotonic()
            if time.monotonic() - self._broken_at > _LAST_WORDS_SECONDS:
                _log.critical("the inference of this worker has ended or is stuck: the worker ends")
                os._exit(1)
        return await super().on_tick(counter)


def _end_with_supervisor() -> None:
    """Ends this process as SIGTERM does once the supervisor is gone."""
    supervisor = multiprocessing.parent_process()
    assert supervisor is not None
    wait([supervisor.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


def _work(settings: Settings, listener: socket.socket, limits: tuple[str, bytes], failures: Connection) -> None:
    """Runs one worker; sends the error of a bundle that cannot be loaded, which the supervisor raises."""
    os.setpgid(0, 0)  # a signal to the whole group, such as Ctrl-C's, comes through the supervisor alone, once
    logs.configure(settings.log_format, settings.log_level)
    threading.Thread(target=_end_with_supervisor, name="supervisor", daemon=True).start()
    needs_limits = settings.rate_limit is not None or any(key.rate_limit for key in settings.keys)
    try:
        run(settings, listener, _borrow(*limits) if needs_limits else None, WorkerServer)
    except CompressError as error:
        failures.send((type(error).__name__, str(error)))
