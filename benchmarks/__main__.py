"""Measurements beside ``compress bench``: ``python -m benchmarks COMMAND --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.latency import peers
from benchmarks.quality import batch_independence, compare, exposure, methods, robustness
from benchmarks.reports import docs
from benchmarks.roofline import axes
from benchmarks.serving import load, overload, servers, soak
from benchmarks.training import corpus_start, scan_cost, sweep, throughput, update_cost
from compressor.cli.errors import exit_code_of
from compressor.errors import CompressError

COMMANDS = {
    "peers": peers,
    "compare": compare,
    "sweep": sweep,
    "methods": methods,
    "independence": batch_independence,
    "robustness": robustness,
    "exposure": exposure,
    "update-cost": update_cost,
    "scan-cost": scan_cost,
    "training-throughput": throughput,
    "corpus-start": corpus_start,
    "roofline": axes,
    "servers": servers,
    "load": load,
    "overload": overload,
    "soak": soak,
    "report": docs,
}
"""Name to a module with ``add_arguments`` and ``run``; its docstring is the help."""

PROGRAM = "python -m benchmarks"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    parser = argparse.ArgumentParser(PROGRAM, description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        text = (module.__doc__ or "").split("\n\n")[0]
        module.add_arguments(commands.add_parser(name, help=text, description=module.__doc__))
    options = parser.parse_args(arguments)
    try:
        COMMANDS[options.command].run(options)
    except CompressError as error:
        return exit_code_of(error)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.argv[0] = PROGRAM  # results record the command
    sys.exit(main())
