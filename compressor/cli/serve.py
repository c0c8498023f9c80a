"""``compress serve``: serves bundles over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compressor.cli import options
from serving.settings import Settings

EXAMPLE = "compress serve bundles/de-en --port 8000"

Bundles = Annotated[
    list[Path] | None,
    typer.Argument(metavar="BUNDLE...", help="One or several; default: those of --config.", show_default=False),
]
ApiKey = Annotated[
    str | None,
    typer.Option("--api-key", help="Bearer token that every request must carry; others see it in the process list."),
]
FILE_ONLY = (
    "keys",
    "min_replicas",
    "max_replicas",
    "replica_requests",
    "max_items",
    "max_body_bytes",
    "max_header_bytes",
    "max_new_tokens",
    "queue_items",
    "queue_tokens",
    "batch_tokens",
    "timeout_ms",
    "max_timeout_ms",
    "receive_seconds",
    "send_seconds",
    "keep_alive_seconds",
    "stuck_seconds",
    "grace_seconds",
    "drain_seconds",
)
"""Fields of ``Settings`` that are not options of the command; the file and the environment may have them."""


@options.from_model(Settings, arguments={"bundles": Bundles, "api_key": ApiKey}, omit=FILE_ONLY, given_only=True)
def command(config: Settings) -> None:
    """Serve bundles over HTTP until Ctrl-C.

    POST /v1/translate and /v1/summarize; GET /v1/models, /healthz, /readyz, /metrics and /docs; a page to try the
    models is at /. Each setting may also be in the environment (COMPRESS_PORT) or in a file (--config); docs/serving.md
    lists all.
    """
    from serving.ray_cluster import serve_on_ray
    from serving.workers import serve_with_workers

    serve_on_ray(config) if config.engine == "ray" else serve_with_workers(config)
