"""``compress export``: a run becomes an ONNX bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from compressor.bundle import PRECISIONS
from compressor.cli import options

EXAMPLE = "compress export runs/de-en --out bundles/de-en --precision fp32,int8"


def command(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="Folder written by `compress distill`, or a checkpoint.", show_default=False
        ),
    ],
    out: options.Out,
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            metavar="LIST",
            help=f"Any of {', '.join(PRECISIONS)}, int8+shortlist; by commas; default: fp32,int8, for cuda fp32,fp16.",
        ),
    ] = None,
    device: options.Device = "cpu",
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Sentences a call that the precision mixed is made for.")
    ] = 1,
    task: Annotated[
        Literal["translation", "summarization"] | None,
        typer.Option("--task", help="Of a checkpoint; default: translation."),
    ] = None,
    dev_source: Annotated[
        Path | None,
        typer.Option("--dev-source", metavar="FILE", help="Texts that all must agree on; default: the dev set."),
    ] = None,
    dev_reference: Annotated[
        Path | None, typer.Option("--dev-reference", metavar="FILE", help="Their references, to score each precision.")
    ] = None,
    shortlist_source: Annotated[
        Path | None,
        typer.Option(
            "--shortlist-source", metavar="FILE", help="Texts to learn a shortlist from; default: the run's own."
        ),
    ] = None,
    shortlist_target: Annotated[
        Path | None, typer.Option("--shortlist-target", metavar="FILE", help="What a teacher writes for them.")
    ] = None,
    quality_budget: Annotated[
        float,
        typer.Option("--quality-budget", min=0, help="The most BLEU or ROUGE-L that a precision may lose."),
    ] = 0.3,
    ungated: Annotated[
        bool, typer.Option("--ungated", help="Publish precisions whatever they lose, and without dev data, too.")
    ] = False,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Export a run as an ONNX bundle.

    It is proved on the dev set that the bundle computes what the run computes; the report lies in the bundle. A Hugging
    Face checkpoint in Marian's or BART's layout is exported as it is: fast, without a student; give it
    --dev-source and --dev-reference. Where int8, int4 or mixed loses too much, the layers to blame stay in fp32.
    """
    import compressor
    from compressor.cli.folders import describe
    from compressor.cli.output import print_fields, print_json, readable

    bundle = compressor.export(
        run,
        out,
        precisions=None if precision is None else options.names(precision),
        device=device,
        batch_size=batch_size,
        task=task,
        dev_source=dev_source,
        dev_reference=dev_reference,
        shortlist_source=shortlist_source,
        shortlist_target=shortlist_target,
        quality_budget=quality_budget,
        ungated=ungated,
        force=force,
    )
    fields = describe(bundle)
    if json:
        print_json(fields)
    else:
        print_fields(readable(fields))
