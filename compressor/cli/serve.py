"""``compress serve``: serves bundles over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compressor.cli import options
from serving.settings import Settings

EXAMPLE = "compress serve bundles/de-en --port 8000"

Bundles = Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="One bundle, or several.", show_default=False)]
ApiKey = Annotated[
    str | None,
    typer.Option("--api-key", envvar="COMPRESS_API_KEY", help="Bearer token that every request must carry."),
]
API_ONLY = (
    "max_items",
    "max_body_bytes",
    "max_new_tokens",
    "queue_items",
    "queue_tokens",
    "batch_tokens",
    "timeout_ms",
    "max_timeout_ms",
    "stuck_seconds",
    "grace_seconds",
    "drain_seconds",
)
"""Fields of ``Settings`` that are not options of the command."""


@options.from_model(Settings, arguments={"bundles": Bundles, "api_key": ApiKey}, omit=API_ONLY)
def command(config: Settings) -> None:
    """Serve bundles over HTTP until Ctrl-C.

    POST /v1/translate and /v1/summarize; GET /v1/models, /healthz, /readyz and /docs; a page to try the models is at /.
    """
    from serving.app import serve

    serve(config)
