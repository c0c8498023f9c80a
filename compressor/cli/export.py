"""``compress export``: exports a run as an ONNX bundle, or as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compressor.cli import options
from compressor.exporters.config import ExportConfig

EXAMPLE = "compress export runs/de-en --out bundles/de-en --precision fp32,int8"

Run = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="Folder written by `compress distill`, or a checkpoint.", show_default=False),
]


@options.from_model(ExportConfig)
def command(
    run: Run,
    out: options.Out,
    config: ExportConfig,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Export a run as an ONNX bundle, or as a Hugging Face folder.

    The bundle is checked against the run in PyTorch on the dev set, and contains the report. A Hugging Face checkpoint
    in Marian's or BART's layout can be exported without a student; give it --dev-source and --dev-reference. Where
    int8, int4 or mixed loses too much, the layers that lose most stay in fp32. With --format transformers the result
    is a MarianMT or BART folder, which transformers and CTranslate2's converter load.
    """
    from compressor.cli.folders import describe
    from compressor.cli.output import print_fields, print_json, readable
    from compressor.exporters.export import export_model

    fields = describe(export_model(run, out, config, force=force))
    if json:
        print_json(fields)
    else:
        print_fields(readable(fields))
