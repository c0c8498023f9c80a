"""Probes: is the process alive, and does it want traffic."""

from __future__ import annotations

from fastapi import APIRouter, Request

from serving.problems import Problem, documented
from serving.schemas import Health
from serving.service import Service

router = APIRouter(tags=["health"])


@router.get("/healthz", responses=documented(503))
async def healthz(request: Request) -> Health:
    """200 while the process can answer; 503 when an inference is stuck and a restart would help."""
    service: Service = request.app.state.service
    busy, limit = service.worker.busy_seconds(), service.settings.stuck_seconds
    if busy > limit:
        raise Problem(503, f"an inference has been running for {busy:.0f} s, the limit is {limit:.0f}")
    return Health(status="ok")


@router.get("/readyz", responses=documented(503))
async def readyz(request: Request) -> Health:
    """200 once every model is loaded and warm; 503 before, and while shutting down."""
    service: Service = request.app.state.service
    service.require_ready()
    return Health(status="ready")
