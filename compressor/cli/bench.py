"""``compress bench``: teacher and student side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from compressor.cli import options

EXAMPLE = "compress bench bundles/de-en --teacher DIR --source test.de --reference test.en --json table.json"


def command(
    bundle: options.Bundle,
    source: options.Source,
    reference: options.Reference = None,
    teacher: Annotated[
        str | None, typer.Option("--teacher", metavar="DIR", help="Hugging Face folder or hub name, or a run.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--run", metavar="DIR", help="The student's run, measured in PyTorch.")
    ] = None,
    peers: Annotated[
        str | None,
        typer.Option(
            "--peers",
            metavar="LIST",
            help="Other engines, same weights: ctranslate2, transformers, optimum, marian, openvino.",
        ),
    ] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", metavar="LIST", help="Of the bundle, by commas; default: all.")
    ] = None,
    batch_size: Annotated[
        str, typer.Option("--batch-size", metavar="LIST", help="Sentences a call, by commas.")
    ] = "1,8,32",
    num_beams: Annotated[str, typer.Option("--num-beams", metavar="LIST", help="Beams, by commas.")] = "1",
    device: options.Device = "cpu",
    threads: Annotated[str, typer.Option("--threads", metavar="LIST", help="Threads, by commas.")] = "1",
    sentences: Annotated[int, typer.Option("--sentences", min=1, help="Sentences that are timed.")] = 96,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Timed passes over them.")] = 3,
    warmup: Annotated[int, typer.Option("--warmup", min=0, help="Calls that are not counted.")] = 2,
    max_new_tokens: options.MaxNewTokens = None,
    quality: Annotated[bool, typer.Option("--quality/--no-quality", help="Score the whole source as well.")] = True,
    json: options.JsonFile = None,
    markdown: Annotated[
        str | None, typer.Option("--markdown", metavar="FILE", help="Write a Markdown table; - is standard output.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a report with a plot, in one file.")
    ] = None,
) -> None:
    """Measure teacher and student side by side.

    Latency, memory and quality of the teacher and of every form of its student: the engines take turns, so that a busy
    machine is unfair to none.
    """
    from benchmarks.latency import run as measure
    from benchmarks.page import check_matplotlib
    from benchmarks.settings import BenchConfig, check_peers
    from compressor.cli.output import check_writable

    check_writable([json, markdown, None if html is None else str(html)])
    config = BenchConfig(
        bundle=bundle,
        teacher=teacher,
        run=run,
        source=source,
        reference=reference,
        precisions=None if precision is None else options.names(precision),
        peers=() if peers is None else check_peers(options.names(peers)),
        batch_sizes=options.numbers(batch_size),
        num_beams=options.numbers(num_beams),
        device=device,
        threads=options.numbers(threads),
        sentences=sentences,
        repeats=repeats,
        warmup=warmup,
        max_new_tokens=max_new_tokens,
        quality=quality,
    )
    if html is not None:
        check_matplotlib()
    _show(measure(config), json, markdown, html)


def _show(table: dict[str, Any], json: str | None, markdown: str | None, html: Path | None) -> None:
    """Prints the table in one form, and writes the files that were asked for."""
    from benchmarks import report
    from compressor.cli.output import print_json

    if json == "-":
        print_json(table)
    elif markdown == "-":
        print(report.markdown(table), end="")
    else:
        report.terminal(table)
    if json not in (None, "-"):
        report.write_json(table, Path(json))
    if markdown not in (None, "-"):
        report.write_markdown(table, Path(markdown))
    if html is not None:
        report.write_html(table, html)
