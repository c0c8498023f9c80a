"""``compress serve``: bundles behind an HTTP endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compressor.cli import options

EXAMPLE = "compress serve bundles/de-en --port 8000"


def command(
    bundles: Annotated[
        list[Path], typer.Argument(metavar="BUNDLE...", help="One bundle, or several.", show_default=False)
    ],
    host: Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 is every one.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
    precision: options.Precision = None,
    threads: options.Threads = None,
    device: options.Device = "cpu",
    max_num_beams: Annotated[
        int, typer.Option("--max-num-beams", min=1, help="Most beams that a request may ask for.")
    ] = 8,
    expect_digest: options.Digest = None,
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", envvar="COMPRESS_API_KEY", help="Bearer token that every request must carry."),
    ] = None,
) -> None:
    """Serve bundles over HTTP until Ctrl-C.

    POST /v1/translate and /v1/summarize; GET /v1/models, /healthz, /readyz and /docs.
    """
    from pydantic import ValidationError

    from compressor.errors import ConfigError
    from serving.app import serve
    from serving.settings import Settings

    values = {
        "bundles": bundles,
        "host": host,
        "port": port,
        "precision": precision,
        "threads": threads,
        "device": device,
        "max_num_beams": max_num_beams,
        "expect_digest": expect_digest,
        "api_key": api_key,
    }
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        mistakes = "; ".join(item["msg"].removeprefix("Value error, ") for item in error.errors())
        raise ConfigError(f"serve: {mistakes}") from None
    serve(settings)
