"""``compress inspect``: describes a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compressor.cli import options

EXAMPLE = "compress inspect bundles/de-en"


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run, a bundle, or a Hugging Face checkpoint.")],
    json: options.Json = False,
) -> None:
    """Describe a run, a bundle or a checkpoint.

    Prints its model, scores, size and origin. The files of a bundle are checked, and its digest is printed.
    """
    from compressor.cli.folders import describe
    from compressor.cli.output import print_fields, print_json, readable

    fields = describe(folder)
    if json:
        print_json(fields)
    else:
        print_fields(readable(fields))
