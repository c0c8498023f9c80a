"""``compress runs``: compares runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from compressor.cli import options

EXAMPLE = "compress runs runs/vanilla runs/imitkd --plot curves.svg"

_COLUMNS = {
    "run": "run",
    "method": "method",
    "student": "student",
    "parameters": "parameters",
    "updates": "updates",
    "target_tokens": "tokens",
    "seconds": "seconds",
    "dev_score": "best dev",
    "agreement": "agreement",
    "final_loss": "final loss",
    "target_tokens_per_second": "tokens/s",
    "state": "state",
}
"""Field of a summary -> head of its column."""

_DECIMALS = {"seconds": 0, "dev_score": 2, "agreement": 2, "final_loss": 3, "target_tokens_per_second": 0}


def command(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Runs, or folders that have runs in them.")],
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.svg", help="Draw dev scores against target tokens.")
    ] = None,
    json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Compare runs in a table, and their dev scores in a plot.

    Reads unfinished runs, too. The best dev score is BLEU, for summarization ROUGE-1; tokens are target tokens that
    carried loss; the final loss is the mean of the last logged updates, and of different methods not comparable.
    """
    from dataclasses import asdict

    from compressor.cli.output import check_writable, print_json, print_table
    from compressor.files import write_atomic
    from compressor.run_comparison import compare_runs

    if plot is not None:
        _check_plot(plot, force)
        check_writable([str(plot)])
    runs = compare_runs(folders)
    if plot is not None:
        from benchmarks.reports.dev_curves import plot_file

        write_atomic(plot, plot_file({run.run: run.dev_curve for run in runs}))
    if json:
        print_json([asdict(run) for run in runs])
    else:
        print_table(list(_COLUMNS.values()), [[_cell(asdict(run), name) for name in _COLUMNS] for run in runs])


def _check_plot(plot: Path, force: bool) -> None:
    from compressor.errors import ConfigError, OutputExistsError

    if plot.suffix != ".svg":
        raise ConfigError(f"--plot {plot}: the plot is an SVG file; give a name that ends with .svg")
    if plot.is_file() and not force:
        raise OutputExistsError(f"{plot}: exists already; replace it with {{force}}", options={"force": True})


def _cell(run: dict[str, Any], name: str) -> str | None:
    value = run[name]
    if value is None or isinstance(value, str):
        return value
    return f"{value:,.{_DECIMALS.get(name, 0)}f}"
