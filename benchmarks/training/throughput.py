"""Measures target tokens a second of each method, of `transformers` with the same model and batches, and of rollouts.

All share one corpus and teacher in memory and take turns, all groups of batches each. ImitKD is measured at β = 0,
where every context is a rollout, whose time counts; SeqKD reads references in place of the outputs that the teacher
wrote before. `transformers` is MarianMT in a plain loop: forward, backward, gradient clipping, AdamW. Memory is the
peak of a process that does one of these alone. Rollouts of an untrained student run to the limit: give ``--run``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import MarianMTModel

from benchmarks.measure import memory
from benchmarks.measure.result_file import load, write_json
from benchmarks.measure.timing import interleave, median, stopwatch
from benchmarks.training.contenders import BETA, groups_of, settings_of, start_from, trainer_of
from compressor.child_process import child_environment
from compressor.config import Recipe, dump_recipe, load_recipe
from compressor.data.batching import Batch
from compressor.distillation.context_writer import examples_of
from compressor.distillation.distributed import mixed_precision
from compressor.distillation.estimate import SAMPLE, PlaceholderOutputs
from compressor.distillation.setup import Setup, set_up
from compressor.distillation.thread_count import use_threads
from compressor.distillation.trainer import Trainer
from compressor.errors import CompressError, ConfigError
from compressor.method_table import METHODS, MethodName
from compressor.progress import Bar
from compressor.provenance import provenance, sanitize
from compressor.teachers.conversion.marian import to_marian

BASE: MethodName = "vanilla"
PEER, ROLLOUT = "MarianMT", "rollout"
"""Rows beside those of the methods: the same model trained with transformers, and writing rollouts."""

Work = Callable[[list[Batch]], int]
"""Works on a group of batches and returns the target tokens of it."""


def throughput(
    config: Path,
    overrides: Sequence[str] = (),
    *,
    run: Path | None = None,
    only: Sequence[str] = (),
    groups: int = 4,
    repeats: int = 3,
    progress: bool = True,
) -> dict[str, Any]:
    """Measures the throughput of training.

    Args:
        config: A recipe; without a teacher only methods that need none are measured.
        overrides: ``key.path=value`` settings.
        run: A run of the same architecture whose weights the student starts from.
        only: Names of what is measured: methods, ``PEER``, ``ROLLOUT``. Empty: all.
        groups: Groups of batches (as many together as the recipe rolls out at once).
        repeats: Measured passes over them; one group of each is not counted.
        progress: Whether a bar is shown on stderr.

    Returns:
        ``{"provenance": ..., "settings": ..., "rows": [...]}``; a row has ``name``, ``beta``, ``tokens`` of a pass,
        ``tokens_per_s`` (by each group's median) and ``ratio`` to that of `transformers`, if that was measured.
        ``settings.peak_mb`` is the peak of resident memory during the updates.

    Raises:
        CompressError: the recipe is wrong, a name is unknown, or the run does not fit.
    """
    has_teacher = load_recipe(config, [*overrides, *settings_of(BASE)]).teacher is not None
    names = _chosen(only, has_teacher)
    methods = [name for name in METHODS if name in names]
    recipes: dict[str, Recipe] = {
        name: load_recipe(config, [*overrides, *settings_of(name)]) for name in {BASE, *methods}
    }
    recipe, console = recipes[BASE], Console(stderr=True, quiet=not progress)
    settings: dict[str, Any] = {"load_average": round(os.getloadavg()[0], 2), "groups": groups, "repeats": repeats}
    use_threads(recipe.training.threads, console)
    with Bar(console, progress) as bar:
        setup = set_up(recipe, bar, SAMPLE)
        if run is not None:
            start_from(run, setup)
        base = trainer_of(setup, recipe, PlaceholderOutputs(setup))
        work = {name: _work(name, setup, base, recipes) for name in names}
        items = groups_of(base, recipe.method.rollout.batches, groups)
        tokens: dict[str, dict[int, int]] = {name: {} for name in work}
        memory.reset_peak()
        step = bar.start("updates", len(work) * (1 + repeats * len(items)))
        seconds = interleave(
            {name: stopwatch(_counted(one, items, tokens[name])) for name, one in work.items()},
            range(len(items)),
            repeats=repeats,
            turn=len(items),
            progress=step,
        )
    settings |= {"threads": torch.get_num_threads(), "precision": mixed_precision(recipe.training.precision)}
    settings |= {"peak_mb": round(memory.peak_mb()), "recipe": sanitize(dump_recipe(recipe))}
    rates = {name: sum(tokens[name].values()) / sum(map(median, seconds[name])) for name in work}
    rows = [_row(name, sum(tokens[name].values()), rates) for name in work]
    return {"provenance": provenance(seed=recipe.training.seed), "settings": settings, "rows": rows}


def _chosen(only: Sequence[str], has_teacher: bool) -> list[str]:
    """Returns the names to measure, in the order of the method table. Raises ConfigError for one that is unknown."""
    possible: list[str] = [name for name, row in METHODS.items() if has_teacher or not row.reads_teacher]
    possible += [PEER, ROLLOUT]
    wrong = [name for name in only if name not in possible]
    if wrong:
        raise ConfigError(f"{{only}}: {wrong[0]!r} is not one of {', '.join(possible)}", options=["only"])
    return [name for name in possible if not only or name in only]


def _work(name: str, setup: Setup, base: Trainer, recipes: Mapping[str, Recipe]) -> Work:
    """Returns the work of a row; ``base`` trains by the recipe of ``BASE``."""
    if name == PEER:
        return _Marian(setup, base)
    if name == ROLLOUT:
        return _rollouts(base)
    return _updates(base if name == BASE else trainer_of(setup, recipes[name], base.signal))


def _updates(trainer: Trainer) -> Work:
    """Returns work that trains on a group."""
    # Update 0: the learning rate is near zero in warm-up, so the student does not change.
    return lambda group: sum(stats.positions for stats in trainer.train_group(group, 0))


def _rollouts(trainer: Trainer) -> Work:
    """Returns work that writes rollouts alone."""
    return lambda group: sum(map(len, trainer.writer.roll_out(examples_of(group))))


class _Marian:
    """MarianMT of the student's shape, trained on references in a plain loop."""

    def __init__(self, setup: Setup, trainer: Trainer) -> None:
        self.training, self.device = setup.recipe.training, trainer.accelerator.device
        config = to_marian(setup.student, setup.generation).config
        config.dropout = setup.recipe.student.dropout
        config.attention_dropout = config.activation_dropout = 0.0
        self.model = MarianMTModel(config).to(self.device).train()
        self.lengths = setup.train.targets.lengths
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-6, betas=self.training.adam_betas)

    def __call__(self, group: list[Batch]) -> int:
        return sum(self._update(batch.to(self.device)) for batch in group)

    def _update(self, batch: Batch) -> int:
        """Makes one update with a batch, and returns its target tokens."""
        assert batch.target is not None  # the recipe has no monolingual sources
        lengths = torch.from_numpy(self.lengths[batch.indices]).to(self.device)
        beyond = torch.arange(batch.target.shape[1], device=self.device) >= lengths[:, None]
        bf16 = mixed_precision(self.training.precision) == "bf16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16):
            outputs = self.model(
                input_ids=batch.source,
                attention_mask=batch.source_mask.long(),
                labels=batch.target.masked_fill(beyond, -100),
            )
        outputs.loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return int(lengths.sum())


def _counted(work: Work, items: Sequence[list[Batch]], tokens: dict[int, int]) -> Callable[[int], None]:
    """Returns an action on the group with a number, which notes the tokens."""

    def action(index: int) -> None:
        tokens[index] = work(items[index])

    return action


def _row(name: str, tokens: int, rates: dict[str, float]) -> dict[str, Any]:
    return {
        "name": name,
        "beta": BETA if any(name == one and row.uses_rollouts for one, row in METHODS.items()) else None,
        "tokens": tokens,
        "tokens_per_s": round(rates[name]),
        "ratio": round(rates[name] / rates[PEER], 2) if PEER in rates and name != ROLLOUT else None,
        "peak_mb": None,
    }


def peak_alone(name: str, arguments: Sequence[str]) -> int:
    """Returns the peak memory, in MB, of a process that measures ``name`` alone. Raises CompressError if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        command = [sys.executable, "-m", "benchmarks", "training-throughput", *arguments, "--no-memory"]
        done = subprocess.run(
            [*command, "--only", name, "--repeats", "1", "--json", str(out)],
            capture_output=True,
            text=True,
            env=child_environment(),
        )
        if done.returncode != 0:
            raise CompressError(f"{name} alone failed: {(done.stderr.splitlines() or ['no message'])[-1]}")
        return int(load(out)["settings"]["peak_mb"])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("config", type=Path, help="recipe")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="replace a field of the recipe")
    parser.add_argument("--run", type=Path, metavar="DIR", help="run whose weights the student starts from")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help=f"methods, {PEER}, {ROLLOUT}")
    parser.add_argument("--groups", type=int, default=4, help="groups of batches")
    parser.add_argument("--repeats", type=int, default=3, help="measured passes over them")
    parser.add_argument("--no-memory", action="store_true", help="skip the processes that measure memory")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result")


def run(options: argparse.Namespace) -> None:
    """Measures, writes the file, and prints a table."""
    table = throughput(
        options.config, options.set, run=options.run, only=options.only, groups=options.groups, repeats=options.repeats
    )
    if not options.no_memory:
        arguments = [str(options.config), *(f"--set={change}" for change in options.set), f"--groups={options.groups}"]
        arguments += [f"--run={options.run}"] if options.run else []
        for row in table["rows"]:
            row["peak_mb"] = peak_alone(row["name"], arguments)
    if options.json:
        write_json(table, options.json)
    for row in table["rows"]:
        ratio = f"{row['ratio']:5.2f} times {PEER}" if row["ratio"] else " " * 23
        memory_text = f"   {row['peak_mb']:,} MB" if row["peak_mb"] else ""
        print(f"{row['name']:<14} {row['tokens_per_s']:9,d} target tokens/s   {ratio}{memory_text}")
