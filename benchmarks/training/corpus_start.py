"""Measures how long a run takes to begin, and its memory: the first time, when the corpus is tokenized, and again.

Each start is a process of its own that imports, reads the recipe's data, loads the teacher, builds the student, and
plans the batches of the first pass. Memory is the largest sum of the resident memory of it and its children.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.measure.result_file import write_json
from compressor.child_process import child_environment
from compressor.config import load_recipe
from compressor.distillation.setup import set_up
from compressor.distillation.trainer import Trainer
from compressor.errors import CompressError
from compressor.progress import Bar
from compressor.provenance import provenance

COMMANDS = ("distill", "train")
EVERY_S = 0.1
"""Time between two readings of memory."""


def start(config: Path, overrides: Sequence[str], command: str, cache: Path) -> int:
    """Begins a run, as far as its first batch; returns the number of its examples."""
    recipe = load_recipe(config, list(overrides), without_teacher=command == "train")
    with Bar(Console(stderr=True), shown=True) as bar:
        setup = set_up(recipe, bar, cache=cache)
    next(Trainer(setup).batches.epoch(0))
    return len(setup.train.sources)


def corpus_start(config: Path, overrides: Sequence[str] = (), commands: Sequence[str] = COMMANDS) -> dict[str, Any]:
    """Measures the starts of a run by each command, the first and a second one.

    Returns:
        ``{"provenance": ..., "settings": ..., "rows": [...]}``; a row has ``command``, ``start`` (first, again),
        ``seconds``, ``cpu_seconds`` (of all its processes), ``peak_mb``, and the machine's ``load_average`` before it.

    Raises:
        CompressError: a start failed.
    """
    rows: list[dict[str, Any]] = []
    for command in commands:
        with tempfile.TemporaryDirectory() as cache:
            for name in ("first", "again"):
                load_average = round(os.getloadavg()[0], 2)
                measured = _measure([str(config), *(f"--set={one}" for one in overrides), f"--begin={command}"], cache)
                rows.append({"command": command, "start": name, **measured, "load_average": load_average})
    settings = {"config": config.name, "overrides": [override.split("=")[0] for override in overrides]}
    return {"provenance": provenance(), "settings": settings, "rows": rows}


def _measure(arguments: Sequence[str], cache: str) -> dict[str, Any]:
    """Runs one start in a process of its own."""
    begun, before, peak = time.perf_counter(), os.times(), 0.0
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "corpus-start", *arguments, f"--cache={cache}"],
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(),
    )
    while process.poll() is None:
        peak = max(peak, tree_mb(process.pid))
        time.sleep(EVERY_S)
    seconds, after = time.perf_counter() - begun, os.times()
    written = process.communicate()[0]
    if process.returncode != 0:
        raise CompressError(f"a start ended with exit code {process.returncode}, see above")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {
        "examples": int(written.split()[-1]),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "peak_mb": round(peak),
    }


def tree_mb(pid: int) -> float:
    """Returns the resident memory of a process and its descendants, in MB; shared pages count in each. Linux only."""
    total, waiting = 0.0, [pid]
    while waiting:
        folder = Path("/proc") / str(waiting.pop())
        try:
            fields = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
            total += int(fields.get("VmRSS", "0 kB").split()[0]) * 1024 / 1e6
            for children in folder.glob("task/*/children"):
                waiting += [int(child) for child in children.read_text().split()]
        except OSError:  # it has ended
            continue
    return total


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("config", type=Path, help="recipe")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="replace a field of the recipe")
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS), help="what is begun")
    parser.add_argument("--begin", choices=COMMANDS, help="begin one run here, with --cache, and measure nothing")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="folder of tokenized corpora")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result")


def run(options: argparse.Namespace) -> None:
    """Measures, writes the file, and prints a table."""
    if options.begin:
        print(start(options.config, options.set, options.begin, options.cache))
        return
    table = corpus_start(options.config, options.set, options.commands)
    if options.json:
        write_json(table, options.json)
    for row in table["rows"]:
        print(f"{row['command']:<8} {row['start']:<6} {row['seconds']:7.1f} s {row['peak_mb']:7,d} MB")
