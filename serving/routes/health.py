"""Probes and metrics: whether the process is alive, whether it wants traffic, and what it counts."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from serving.errors import Problem, documented
from serving.jobs import WorkerDead
from serving.models import Service
from serving.schemas import Health

router = APIRouter(tags=["health"])
metrics_router = APIRouter(tags=["health"])


@router.get("/healthz", responses=documented(503))
async def healthz(request: Request) -> Health:
    """200 while the process can answer; 503 when an inference is stuck and a restart would help."""
    service: Service = request.app.state.service
    if service.batcher.is_dead:
        raise WorkerDead
    busy, limit = service.batcher.busy_seconds(), service.settings.stuck_seconds
    if busy > limit:
        raise Problem(503, f"an inference has been running for {busy:.0f} s, the limit is {limit:.0f}")
    return Health(status="ok")


@router.get("/readyz", responses=documented(503))
async def readyz(request: Request) -> Health:
    """200 once every model is loaded and warm; 503 before, and while shutting down."""
    service: Service = request.app.state.service
    service.require_ready()
    return Health(status="ready")


@metrics_router.get("/metrics", responses=documented(401), response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Counters for Prometheus (docs/serving.md lists them)."""
    service: Service = request.app.state.service
    service.show_queue()
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)
