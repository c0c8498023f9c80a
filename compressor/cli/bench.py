"""``compress bench``: teacher and students side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from compressor.cli import options

EXAMPLE = "compress bench bundles/de-en --teacher DIR --source test.de --reference test.en --json table.json"


def command(
    bundles: Annotated[
        list[Path],
        typer.Argument(metavar="BUNDLE...", help="Folders written by `compress export`.", show_default=False),
    ],
    source: options.Source,
    reference: options.Reference = None,
    teacher: Annotated[
        str | None, typer.Option("--teacher", metavar="DIR", help="Hugging Face folder or hub name, or a run.")
    ] = None,
    runs: Annotated[
        list[Path] | None,
        typer.Option("--run", metavar="DIR", help="A student's run, measured in PyTorch. Repeatable."),
    ] = None,
    peers: Annotated[
        str | None,
        typer.Option(
            "--peers",
            metavar="LIST",
            help="Other engines with the weights of teacher and runs, by commas; `all` names every one.",
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
    """Measure teacher and students side by side.

    Latency, memory and quality of the teacher and of every precision of its students. The engines take turns, so that
    disturbances of the machine fall on all alike. Rows of several students are labelled by their folders.
    """
    from benchmarks.engines.registry import PEERS, check_peers
    from benchmarks.latency.bench import run as measure
    from benchmarks.latency.config import BenchConfig
    from benchmarks.reports.html import check_matplotlib
    from compressor.cli.output import check_writable

    check_writable([json, markdown, None if html is None else str(html)])
    config = BenchConfig(
        bundles=tuple(bundles),
        teacher=teacher,
        runs=tuple(runs or ()),
        source=source,
        reference=reference,
        precisions=None if precision is None else options.names(precision),
        peers=() if peers is None else PEERS if peers == "all" else check_peers(options.names(peers)),
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
    """Prints the table, and writes the files that were asked for."""
    from benchmarks.measure import result_file
    from benchmarks.reports import table as tables
    from compressor.cli.output import print_json

    if json == "-":
        print_json(table)
    elif markdown == "-":
        print(tables.markdown(table), end="")
    else:
        tables.terminal(table)
    if json not in (None, "-"):
        result_file.write_json(table, Path(json))
    if markdown not in (None, "-"):
        tables.write_markdown(table, Path(markdown))
    if html is not None:
        tables.write_html(table, html)
