"""The server as a Ray Serve application: replicas of one app, each with its own batcher, started as requests wait."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any

from fastapi import FastAPI

from compressor.bundle import read_manifest
from compressor.errors import ConfigError, DependencyError, install_command
from serving import logs
from serving.app import build_app
from serving.settings import Settings

APPLICATION = "compress"
_log = logging.getLogger("serving.ray")


def application(settings: Settings) -> Any:
    """Returns the Ray Serve application; a replica takes requests once its models are loaded.

    Batches are made in each replica, where the length of every sentence is known, and nowhere else.

    Raises:
        DependencyError: the extra ray is not installed.
    """
    serve = _ray_serve()
    of_replica = settings.model_copy(update={"threads": settings.threads or 1, "config": None})

    def build() -> FastAPI:
        logs.configure(of_replica.log_format, of_replica.log_level)
        return build_app(of_replica, loads_first=True)

    @serve.deployment(
        name="server",
        # The replica's own queue answers 429; what is over its bound must reach it for that.
        max_ongoing_requests=settings.queue_items + settings.max_items,
        ray_actor_options={"num_cpus": of_replica.threads, "num_gpus": 1 if settings.device == "cuda" else 0},
        autoscaling_config={
            "min_replicas": settings.min_replicas,
            "max_replicas": settings.max_replicas,
            "target_ongoing_requests": settings.replica_requests,
        },
        graceful_shutdown_timeout_s=settings.drain_seconds,
    )
    @serve.ingress(build)
    class Server:
        """A replica."""

    deployment: Any = Server
    return deployment.bind()


def serve_on_ray(settings: Settings) -> None:
    """Serves on the Ray cluster of ``RAY_ADDRESS``, or on a new one here, until SIGTERM or Ctrl-C.

    Raises:
        BundleError: a bundle cannot be read.
        ConfigError: the application cannot start.
        DependencyError: the extra ray is not installed.
    """
    serve = _ray_serve()
    logs.configure(settings.log_format, settings.log_level)
    for path in settings.bundles:  # here, because the error of a replica is far away
        read_manifest(path)
    try:
        serve.start(http_options={"host": settings.host, "port": settings.port})
        serve.run(application(settings), name=APPLICATION, blocking=False)
    except RuntimeError as error:
        _leave(serve)
        raise ConfigError(f"Ray Serve could not start the application, see above: {error}") from None
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):  # after Ray has started, which has handlers of its own
        signal.signal(number, lambda *_: stop.set())
    _log.info("listening on http://%s:%d", settings.host, settings.port)
    stop.wait()
    _leave(serve)


def _leave(serve: Any) -> None:
    """Ends this application alone, since others may run on the cluster; a cluster that was started here ends, too."""
    import ray

    serve.delete(APPLICATION)
    ray.shutdown()


def _ray_serve() -> Any:
    """Returns the module ``ray.serve``. Raises DependencyError."""
    try:
        from ray import serve
    except ImportError:
        raise DependencyError(f"Ray Serve is not installed: {install_command('ray')}") from None
    return serve
