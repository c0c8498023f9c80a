"""Spans of requests for OpenTelemetry, configured by its own environment variables (``OTEL_*``)."""

from __future__ import annotations

import os
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compressor.errors import DependencyError, install_command


class Tracing:
    """Makes a span of each request, below the one that its ``traceparent`` header names. It has no text and no key.

    Raises:
        DependencyError: the extra otel is not installed.
    """

    def __init__(self, app: ASGIApp, provider: Any = None) -> None:
        try:
            from opentelemetry.propagate import extract
            from opentelemetry.trace import SpanKind
        except ImportError:
            raise DependencyError(f"tracing needs OpenTelemetry: {install_command('otel')}") from None
        self.app = app
        self._extract, self._server = extract, SpanKind.SERVER
        self._tracer = (provider or _provider()).get_tracer("compress")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        parent = self._extract(dict(Headers(scope=scope)))
        method = scope["method"]
        with self._tracer.start_as_current_span(method, context=parent, kind=self._server) as span:

            async def send_with_status(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                await send(message)

            try:
                await self.app(scope, receive, send_with_status)
            finally:
                route = getattr(scope.get("route"), "path", "")
                span.update_name(f"{method} {route}".strip())
                span.set_attributes(
                    {
                        "http.request.method": method,
                        "http.route": route,
                        "compress.request_id": scope["state"]["request_id"],
                    }
                )


def _provider() -> Any:
    """Returns a provider that sends spans in the background, over OTLP and HTTP."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise DependencyError(f"tracing needs OpenTelemetry: {install_command('otel')}") from None
    name = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": "compress"}
    provider = TracerProvider(resource=Resource.create(name))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
