"""Spans of requests: below the client's span, with route and status, without texts."""

from __future__ import annotations

import asyncio
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from serving.tracing import Tracing

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"  # the example of W3C Trace Context


def test_a_request_is_a_span_below_the_clients() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["route"] = type("Route", (), {"path": "/v1/translate"})
        await send({"type": "http.response.start", "status": 422})

    async def nothing(*_: Any) -> None:
        return None

    headers = [(b"traceparent", f"00-{TRACE}-{PARENT}-01".encode()), (b"authorization", b"Bearer secret")]
    scope = {"type": "http", "method": "POST", "path": "/v1/translate", "headers": headers}
    asyncio.run(Tracing(app, provider)({**scope, "state": {"request_id": "r"}}, nothing, nothing))  # type: ignore[arg-type]
    (span,) = exporter.get_finished_spans()
    assert span.name == "POST /v1/translate"
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    assert dict(span.attributes) == {
        "http.request.method": "POST",
        "http.route": "/v1/translate",
        "http.response.status_code": 422,
        "compress.request_id": "r",
    }
    provider.shutdown()
