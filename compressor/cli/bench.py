"""``compress bench``: measures a teacher and its students in turn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.latency.config import BenchConfig
from compressor.cli import options

EXAMPLE = "compress bench bundles/de-en --teacher DIR --source test.de --reference test.en --json table.json"

Bundles = Annotated[
    list[Path],
    typer.Argument(metavar="BUNDLE...", help="Folders written by `compress export`.", show_default=False),
]
Runs = Annotated[
    list[Path] | None,
    typer.Option("--run", metavar="DIR", help="A student's run, measured in PyTorch. Repeatable."),
]
API_ONLY = ("task", "quality_batch_size", "source_prefix", "source_language", "target_language", "revision")
"""Fields of ``BenchConfig`` that are not options of the command."""


@options.from_model(BenchConfig, arguments={"bundles": Bundles, "runs": Runs}, omit=API_ONLY)
def command(
    config: BenchConfig,
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
    disturbances of the machine affect all of them. Rows of several students are labelled by their folders. Give at
    least one BUNDLE, --teacher or --run.

    `python -m benchmarks --help` lists other measurements: text as users type it (robustness), the speed of training
    (training-throughput, update-cost), servers under load (servers, load, soak), and the comparison of methods.
    """
    from benchmarks.latency.bench import run as measure
    from benchmarks.reports.html import check_matplotlib
    from compressor.cli.output import check_writable

    check_writable([json, markdown, None if html is None else str(html)])
    if html is not None:
        check_matplotlib()
    _show(measure(config), json, markdown, html)


def _show(table: dict[str, Any], json: str | None, markdown: str | None, html: Path | None) -> None:
    """Prints the table and writes the requested files."""
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
