"""Measures the time of an update of ImitKD, and of SeqKD from labels, beside a Vanilla + Full update.

All methods share one teacher in memory and learn from the same batches. They take turns, all groups of batches each: in
a run an update follows one of its own kind. SeqKD reads outputs that the teacher writes before the clock starts, as it
reads labels; its updates have no pass of the teacher. ImitKD is measured at β = 0, where it takes longest: every
context is a rollout, and its time counts. The length of a rollout depends on the student, so start from a trained one
(``--run``): an untrained one writes up to the limit.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence, Sized
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.measure.result_file import write_json
from benchmarks.measure.timing import interleave, median, percentile, stopwatch
from benchmarks.training.contenders import BETA, WrittenOutputs, groups_of, settings_of, start_from, trainer_of
from compressor.config import dump_recipe, load_recipe
from compressor.data.batching import Batch
from compressor.distillation.context_writer import examples_of
from compressor.distillation.distributed import mixed_precision
from compressor.distillation.setup import Setup, set_up
from compressor.distillation.trainer import Trainer
from compressor.errors import ConfigError
from compressor.method_table import METHODS, MethodName
from compressor.progress import Bar
from compressor.provenance import provenance, sanitize

BASE: MethodName = "vanilla+full"
LABELLED: MethodName = "seqkd"
IMITATION: MethodName = "imitkd"
COMPARED: tuple[MethodName, ...] = (BASE, LABELLED, IMITATION, "imitkd+full")


def update_cost(
    config: Path,
    overrides: Sequence[str] = (),
    *,
    run: Path | None = None,
    groups: int = 4,
    repeats: int = 3,
    warmup: int = 1,
    progress: bool = True,
) -> dict[str, Any]:
    """Measures one update of each method.

    Args:
        config: A recipe with a teacher.
        overrides: ``key.path=value`` settings.
        run: A run of the same architecture whose weights the student starts from.
        groups: Groups of batches (as many together as the recipe rolls out at once).
        repeats: Measured passes over them.
        warmup: Groups of each method that are not counted.
        progress: Whether a bar is shown on stderr.

    Returns:
        ``{"provenance": ..., "settings": ..., "rows": [...]}``: milliseconds an update, and ``ratio``, the median of
        quotients by Vanilla + Full's time for the same batches in the same pass. ``rollout_tokens``, ``label_tokens``
        (SeqKD's) and ``reference_tokens`` are means a sentence.

    Raises:
        CompressError: the recipe is wrong, has no teacher, or the run does not fit it.
    """
    recipes = {name: load_recipe(config, [*overrides, *settings_of(name)]) for name in COMPARED}
    if recipes[BASE].teacher is None:
        raise ConfigError(f"{config}: has no teacher; add teacher.path")
    setup = set_up(recipes[BASE])
    if run is not None:
        start_from(run, setup)
    work = groups_of(trainer_of(setup, recipes[IMITATION]), recipes[IMITATION].method.rollout.batches, groups)
    labels = WrittenOutputs(replace(setup, recipe=recipes[LABELLED]), work)
    signals = {LABELLED: labels}
    trainers = {name: trainer_of(setup, recipe, signals.get(name)) for name, recipe in recipes.items()}
    # Update 0: the learning rate is near zero in warm-up, so the student does not change.
    probes = {name: stopwatch(partial(own.train_group, update=0)) for name, own in trainers.items()}
    with Bar(Console(stderr=True), progress) as bar:
        advance = bar.start("updates", len(COMPARED) * (warmup + repeats * len(work)))
        seconds = interleave(probes, work, repeats=repeats, warmup=warmup, turn=len(work), progress=advance)
    samples = {name: _per_update(seconds[name], work) for name in COMPARED}
    lengths = _lengths(setup, trainers[IMITATION], labels, work)
    return {
        "provenance": provenance(seed=recipes[BASE].training.seed),
        "settings": {
            "recipe": sanitize(dump_recipe(recipes[BASE])),
            "groups": len(work),
            "repeats": repeats,
            "threads": torch.get_num_threads(),
            "precision": mixed_precision(recipes[BASE].training.precision),
            **lengths,
        },
        "rows": [row_of(name, samples) for name in COMPARED],
    }


def _per_update(seconds: Sequence[Sequence[float]], work: Sequence[Sequence[Batch]]) -> list[float]:
    """Seconds an update, one sample for each group and repeat."""
    return [value / len(group) for group, values in zip(work, seconds, strict=True) for value in values]


def _lengths(
    setup: Setup, trainer: Trainer, labels: WrittenOutputs, work: Sequence[Sequence[Batch]]
) -> dict[str, float]:
    """Returns the mean tokens of rollouts, labels and references on the first group of batches."""
    chosen = examples_of(work[0])
    indices = [batch.indices[row] for batch, row in chosen]
    texts: dict[str, Sequence[Sized]] = {
        "rollout_tokens": trainer.writer.roll_out(chosen),
        "label_tokens": labels.outputs(indices, [0] * len(indices)),
        "reference_tokens": [setup.train.targets[index] for index in indices],
    }
    return {name: round(sum(map(len, tokens)) / len(chosen), 2) for name, tokens in texts.items()}


def row_of(name: MethodName, samples: dict[MethodName, list[float]]) -> dict[str, Any]:
    """Returns the statistics of a method's updates."""
    own = samples[name]
    return {
        "method": name,
        "beta": BETA if METHODS[name].uses_rollouts else None,
        "p50_ms": round(median(own) * 1e3, 2),
        "p90_ms": round(percentile(own, 90) * 1e3, 2),
        "p99_ms": round(percentile(own, 99) * 1e3, 2),
        "ratio": round(median([time / base for time, base in zip(own, samples[BASE], strict=True)]), 3),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("config", type=Path, help="recipe with a teacher")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="replace a field of the recipe")
    parser.add_argument("--run", type=Path, metavar="DIR", help="run whose weights the student starts from")
    parser.add_argument("--groups", type=int, default=4, help="groups of batches")
    parser.add_argument("--repeats", type=int, default=3, help="measured passes over them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result")


def run(options: argparse.Namespace) -> None:
    """Measures, writes the file, and prints a table."""
    table = update_cost(options.config, options.set, run=options.run, groups=options.groups, repeats=options.repeats)
    if options.json:
        write_json(table, options.json)
    for row in table["rows"]:
        print(f"{row['method']:<14} {row['p50_ms']:9.1f} ms an update   {row['ratio']:.2f} times {BASE}")
    lengths = table["settings"]
    means = ("rollout_tokens", "a rollout"), ("label_tokens", "a label"), ("reference_tokens", "a reference")
    print("Tokens: " + ", ".join(f"{lengths[name]} {text}" for name, text in means))
