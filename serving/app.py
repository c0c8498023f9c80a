"""The FastAPI application, and the process that serves it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Lifespan

from compressor import __version__
from compressor.errors import ConfigError
from serving import logs, memory
from serving.access import Access
from serving.connections import protocol_class
from serving.direct import DirectRoutes
from serving.errors import ERRORS, ProblemBody, ProblemItem, answer_error
from serving.middleware import RequestChecks, RequestId
from serving.models import Load, Service, load_bundle
from serving.rate_limits import RateLimits
from serving.routes import deepl, health, huggingface, libretranslate, native, page
from serving.settings import Settings
from serving.tracing import Tracing

_DESCRIPTION = (
    """Small students behind HTTP. Errors are `application/problem+json`; every response has an `X-Request-Id`."""
)
_log = logging.getLogger("serving")


def build_app(
    settings: Settings | Sequence[Path],
    load: Load = load_bundle,
    limits: RateLimits | None = None,
    loads_first: bool = False,
) -> FastAPI:
    """Builds the application; models load in the background once it has started.

    Args:
        settings: Settings, or just bundle folders.
        load: Returns the engine of a bundle folder.
        limits: Counts requests; None: a counter of its own.
        loads_first: Start only with all models loaded: until then, others answer. A bundle that cannot be loaded is
            an error of the start.

    Returns:
        The application; ``app.state.service`` is its Service, whose ``failure`` is the error of a bundle that could not
        be loaded. It is not logged: ``serve`` raises it, and another server must report it.
    """
    settings = settings if isinstance(settings, Settings) else Settings(bundles=list(settings))
    service = Service(settings, load)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(service.load_models())
        if loads_first or settings.workers > 1:  # others answer until this one can
            await loading
        if loads_first and service.failure is not None:
            raise service.failure
        yield
        service.leave()
        loading.cancel()
        await asyncio.to_thread(service.batcher.close, settings.drain_seconds)

    access = Access(settings, limits or RateLimits())
    app = _new_app(settings, lifespan)
    app.state.service, app.state.access = service, access
    for routes in (native, huggingface, libretranslate, deepl, health, *([page] if settings.page else [])):
        app.include_router(routes.router)
    if settings.metrics:
        app.include_router(health.metrics_router)
    for error in (HTTPException, RequestValidationError, *ERRORS):
        app.add_exception_handler(error, answer_error)
    app.add_middleware(DirectRoutes, routes=native.DIRECT)
    app.add_middleware(RequestChecks, settings=settings, access=access)
    if settings.cors_origins:  # outside the checks, since a browser asks for leave without a key
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-Id"],
            expose_headers=["X-Request-Id", "Retry-After"],
        )
    if settings.tracing:
        app.add_middleware(Tracing)
    app.add_middleware(RequestId, metrics=service.metrics)  # added last, so outermost
    _document_problems(app)
    return app


def serve(settings: Settings) -> None:
    """Serves in this process until SIGTERM or Ctrl-C, then finishes what was admitted and returns.

    Raises:
        ConfigError: the address cannot be listened on.
        CompressError: a bundle cannot be loaded.
    """
    logs.configure(settings.log_format, settings.log_level)
    listener = listen(settings.host, settings.port)
    announce(listener)
    run(settings, listener)


def announce(listener: socket.socket) -> None:
    """Logs the address of the server."""
    host, port = listener.getsockname()[:2]
    _log.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)


def run(
    settings: Settings,
    listener: socket.socket,
    limits: RateLimits | None = None,
    server: type[Server] | None = None,
) -> None:
    """Answers the connections of a listener; returns and raises as ``serve``."""
    app = build_app(settings, limits=limits)
    (server or Server)(server_config(app, settings), app.state.service).run(sockets=[listener])
    if app.state.service.failure is not None:
        raise app.state.service.failure


def server_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Returns uvicorn's configuration."""
    return uvicorn.Config(
        app,
        http=protocol_class(settings),
        h11_max_incomplete_event_size=settings.max_header_bytes + (1 << 18),  # the protocol's own limit comes first
        log_config=None,
        log_level="warning",
        access_log=False,  # the middleware logs requests
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        ws="none",
        timeout_keep_alive=round(settings.keep_alive_seconds),
        timeout_graceful_shutdown=round(settings.drain_seconds),
    )


class Server(uvicorn.Server):
    """A server that loses no request when it is stopped, and exits with 0.

    After SIGTERM it is not ready, but answers requests for a grace period in which load balancers notice that; then it
    closes the listener and finishes the requests that were admitted.
    """

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service
        self._stop_at: float | None = None
        self._reload: asyncio.Task[None] | None = None
        self._trimmer = memory.Trimmer()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts the server; from then on SIGHUP reloads the bundles."""
        await super().startup(sockets)
        if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGHUP"):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._start_reload)

    def _start_reload(self) -> None:
        self._reload = asyncio.create_task(self.service.reload())

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Starts the grace period, which is zero for Ctrl-C. A second signal ends it; a third exits at once."""
        self.force_exit = self.should_exit
        self.should_exit = self._stop_at is not None
        grace = self.service.settings.grace_seconds if sig == signal.SIGTERM else 0.0
        self._stop_at = time.monotonic() + grace
        self.service.leave()

    async def on_tick(self, counter: int) -> bool:
        """Stops the server when the grace period is over or a model could not be loaded."""
        if self.service.failure is not None or (self._stop_at is not None and time.monotonic() >= self._stop_at):
            self.should_exit = True
        if counter % 10 == 0:
            self.service.show_queue()
            self._trimmer.tick(busy=self.service.batcher.items > 0)
        return await super().on_tick(counter)


def listen(host: str, port: int) -> socket.socket:
    """Returns a listening socket whose accepted connections have TCP_NODELAY.

    uvicorn writes a response in two pieces, and without the option the second waits for the client's delayed
    acknowledgement of the first, about 40 ms. asyncio sets it only on sockets that name their protocol, which
    ``create_server`` does not; an accepted connection inherits it from the listener.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another {{host}} or {{port}}",
            options=["host", "port"],
        ) from None
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _new_app(settings: Settings, lifespan: Lifespan[FastAPI]) -> FastAPI:
    """Returns an empty application, with or without the page /docs."""
    description: dict[str, Any] = {"title": "compress", "version": __version__, "description": _DESCRIPTION}
    if not settings.docs:
        return FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None, **description)
    # The page comes with its scripts: a server may be cut off from the internet. There is no second page.
    return FastAPIOffline(lifespan=lifespan, redoc_url=None, **description)


def _document_problems(app: FastAPI) -> None:
    """Adds the schema of the error body, which no route returns, to the OpenAPI document."""
    generate = app.openapi
    template = "#/components/schemas/{model}"
    bodies = {model.__name__: model.model_json_schema(ref_template=template) for model in (ProblemBody, ProblemItem)}
    bodies["ProblemBody"].pop("$defs")  # ProblemItem has an entry of its own

    def openapi() -> dict[str, Any]:
        document = generate()
        document["components"]["schemas"].update(bodies)
        return document

    app.openapi = openapi  # type: ignore[method-assign]
