"""The command ``compress``. Each command has a file, which imports heavy packages only when the command runs.

Results go to standard output, progress and messages to standard error. A failure is one line and an exit code
(``compressor.cli.errors``); ``--debug``, anywhere on the line, shows the traceback instead.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from compressor import __version__
from compressor.cli import (
    bench,
    demo,
    distill,
    evaluate,
    export,
    inspect,
    label,
    runs,
    serve,
    summarize,
    train,
    translate,
)
from compressor.cli.errors import BROKEN_PIPE, exit_code_of

COMMANDS = (distill, train, label, export, bench, translate, summarize, evaluate, serve, inspect, runs, demo)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
for _module in COMMANDS:
    _name = _module.__name__.rpartition(".")[2]
    app.command(_name, epilog=f"Example:  {_module.EXAMPLE}", no_args_is_help=_name not in ("demo", "serve"))(
        _module.command
    )


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"compress {__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")] = False,
) -> None:
    """Distil a large sequence-to-sequence teacher into a small ONNX student, measure it, serve it."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs a command line and exits with its code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        code = app([word for word in words if word != "--debug"], prog_name="compress", standalone_mode=False)
        sys.stdout.flush()
    except BaseException as error:
        if debug and not isinstance(error, SystemExit):
            raise
        code = exit_code_of(error)
    if code == BROKEN_PIPE:
        # The pipe is closed: redirect standard output so that the interpreter's final flush does not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code or 0)
