"""Probes: whether the process is alive, and whether it wants traffic."""

from __future__ import annotations

from fastapi import APIRouter, Request

from serving.errors import Problem, documented
from serving.jobs import WorkerDead
from serving.models import Service
from serving.schemas import Health

router = APIRouter(tags=["health"])


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
