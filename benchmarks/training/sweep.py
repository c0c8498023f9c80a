"""Trains the recipes of a folder, several at a time; the same command goes on where it was stopped.

Recipes that read the teacher's outputs share one folder of labels, which is written first. A recipe that starts from
the run of another one comes after it. A log stands beside each run.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from compressor.child_process import child_environment
from compressor.config import Recipe, load_recipe
from compressor.distillation.label_identity import hypotheses_read
from compressor.errors import CompressError, ConfigError
from compressor.processors import available_cpus
from compressor.run_folder import LABELS_FOLDER, is_finished

SHARED_FIELDS = "base.yaml"
"""Name of files that only hold what recipes have in common."""
POLL_SECONDS = 0.2


class Step(NamedTuple):
    """A recipe and the run that it makes."""

    path: Path
    recipe: Recipe
    out: Path


def plan(folder: Path, out: Path, overrides: Sequence[str]) -> list[Step]:
    """Returns the recipes in a folder and its subfolders by name, those that start from another's run after it.

    Raises:
        ConfigError: there is no recipe, one is wrong, or two wait for each other.
    """
    paths = sorted(path for path in folder.rglob("*.yaml") if path.name != SHARED_FIELDS)
    if not paths:
        raise ConfigError(f"{folder}: no recipes in it (*.yaml)")
    waiting = [
        Step(path, load_recipe(path, [*overrides]), out / path.relative_to(folder).with_suffix("")) for path in paths
    ]
    ordered: list[Step] = []
    while waiting:
        ready = [step for step in waiting if first_run(step) not in {other.out.resolve() for other in waiting}]
        if not ready:
            names = ", ".join(str(step.path) for step in waiting)
            raise ConfigError(f"{names}: each starts from the run of another (training.initialization)")
        ordered += ready
        waiting = [step for step in waiting if step not in ready]
    return ordered


def choose(steps: Sequence[Step], out: Path, patterns: Sequence[str]) -> list[Step]:
    """Returns the steps whose names, ``SUBFOLDER/RECIPE``, match a pattern, in the order of the patterns.

    Raises:
        ConfigError: a pattern matches none.
    """
    named = {step.out.relative_to(out).as_posix(): step for step in steps}
    chosen: dict[str, Step] = {}
    for pattern in patterns:
        names = fnmatch.filter(named, pattern)
        if not names:
            raise ConfigError(f"--only {pattern}: no such recipe; there are {', '.join(named)}")
        chosen |= {name: named[name] for name in names}
    return [*chosen.values()]


def first_run(step: Step) -> Path | None:
    """The run whose weights a recipe starts from, as an absolute path; None if it starts from none."""
    run = step.recipe.training.initial_run
    return None if run is None else run.resolve()


def label_command(steps: Sequence[Step], labels: Path, overrides: Sequence[str]) -> list[str] | None:
    """Returns the command that writes the labels which the steps share; None if no unfinished one reads labels."""
    readers = [step for step in steps if step.recipe.teacher and step.recipe.method.row.reads_teacher_outputs]
    if all(is_finished(step.out) for step in readers):
        return None
    count = max(hypotheses_read(step.recipe) for step in readers)
    writer = min(readers, key=lambda step: first_run(step) is not None)  # a run that it starts from is not there yet
    return _command("label", writer.path, labels, overrides, "--num-hypotheses", str(count))


def run_command(step: Step, labels: Path, overrides: Sequence[str]) -> list[str]:
    """Returns the command that makes or continues a run."""
    if step.recipe.teacher is None:
        command, settings = "train", [*overrides]
    else:
        command, settings = "distill", [*overrides]
        if step.recipe.method.row.reads_teacher_outputs:
            settings += [f"teacher.labels={labels}", "teacher.label_engine=auto"]  # they are written already
    return _command(command, step.path, step.out, settings, *(["--resume"] if step.out.is_dir() else []))


def _command(name: str, recipe: Path, out: Path, overrides: Sequence[str], *more: str) -> list[str]:
    settings = [part for override in overrides for part in ("--set", override)]
    return [sys.executable, "-m", "compressor", name, str(recipe), "--out", str(out), *settings, *more]


def run_all(steps: Sequence[Step], labels: Path, overrides: Sequence[str], processes: int) -> None:
    """Makes all runs that are not finished, ``processes`` at a time.

    Raises:
        CompressError: some runs failed; the others were made all the same.
        KeyboardInterrupt: it was stopped; every run that was in progress has written a checkpoint.
    """
    waiting = [step for step in steps if not is_finished(step.out)]
    running: dict[subprocess.Popen[bytes], Step] = {}
    failed: list[Step] = []
    with _stopping(running):
        while waiting or running:
            for process in [process for process in running if process.poll() is not None]:
                step = running.pop(process)
                _say(f"{step.out}: " + ("done" if process.returncode == 0 else f"exit code {process.returncode}"))
                failed += [step] if process.returncode else []
            unmade = {step.out.resolve() for step in (*waiting, *running.values())}
            lost = {step.out.resolve() for step in failed}
            for step in [step for step in waiting if first_run(step) not in unmade]:
                if first_run(step) in lost:
                    waiting.remove(step)
                    failed.append(step)
                elif len(running) < processes:
                    waiting.remove(step)
                    running[_start(run_command(step, labels, overrides), log_of(step.out))] = step
                    _say(f"{step.out}: begun, {len(waiting)} wait")
            time.sleep(POLL_SECONDS)
    if failed:
        logs = ", ".join(str(log_of(step.out)) for step in failed)
        raise CompressError(f"{len(failed)} of {len(steps)} runs failed, see {logs}; the same command tries them again")


def log_of(out: Path) -> Path:
    """The file with the messages of a run."""
    return out.with_name(f"{out.name}.log")


def _start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Starts a command in a process group of its own, so that a stop reaches it once."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=child_environment(),
            start_new_session=True,
        )


@contextlib.contextmanager
def _stopping(running: dict[subprocess.Popen[bytes], Step]) -> Iterator[None]:
    """Stops what runs when the block is left by Ctrl-C or SIGTERM, and waits for the checkpoints."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except BaseException:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("folder", type=Path, help="folder of recipes")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs, named as the recipes")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="replace a field of all recipes"
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="PATTERN",
        help="make these recipes alone, in this order, by their names in the folder, such as 'transformer/vanilla*'",
    )
    parser.add_argument("--processes", type=int, default=1, help="runs at a time; each has its part of the processors")


def run(options: argparse.Namespace) -> None:
    """Writes the labels and makes the runs. Raises ConfigError for fewer than one process."""
    if options.processes < 1:
        raise ConfigError(f"--processes is {options.processes}: give 1 or more")
    threads = max(1, available_cpus() // options.processes)
    overrides = [*options.set]
    if not any(override.startswith("training.threads=") for override in overrides):
        overrides.append(f"training.threads={threads}")
    steps = plan(options.folder, options.out, overrides)
    chosen = choose(steps, options.out, options.only or ["*"])
    labels = options.out / LABELS_FOLDER
    reads = any(step.recipe.method.row.reads_teacher_outputs for step in chosen)
    command = label_command(steps, labels, options.set) if reads else None  # for those that come later, too
    if command is not None:
        _say(f"{labels}: the teacher's outputs")
        process = _start(command, log_of(labels))
        with _stopping({process: steps[0]}):
            if process.wait():
                raise CompressError(f"labels: exit code {process.returncode}, see {log_of(labels)}")
    run_all(chosen, labels, overrides, options.processes)
