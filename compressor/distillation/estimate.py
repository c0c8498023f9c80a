"""The estimated time and memory of a run, from a few real updates."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from compressor.config import Recipe
from compressor.data.batching import Batch
from compressor.distillation.checkpoint import Progress
from compressor.distillation.contexts import Contexts, TokenIds
from compressor.distillation.initialization import check_start
from compressor.distillation.label_engines import OpenLabelEngine
from compressor.distillation.labels import estimated_seconds
from compressor.distillation.setup import set_up
from compressor.distillation.signals import LiveTeacher
from compressor.distillation.thread_count import use_threads
from compressor.distillation.trainer import Trainer
from compressor.models.base import count_parameters
from compressor.progress import Bar

SAMPLE = 20_000
"""Training examples that are encoded, and that a tokenizer is trained on: all times are scaled to the whole."""

GROUPS = 3
"""Most groups of batches that are run; the first is a warm-up and is not timed."""

ENOUGH_SECONDS = 5.0
"""Time of updates after which no further group is begun."""


def estimate(recipe: Recipe, label_engine: OpenLabelEngine | None = None) -> dict[str, Any]:
    """Returns sizes of teacher and student, and the run's time and memory, from a few real updates at β = 1/2.

    Args:
        recipe: The recipe.
        label_engine: See ``run.distill``.

    Returns:
        ``student_parameters``, ``teacher_parameters`` (null without a teacher), ``ratio``, ``updates``,
        ``updates_per_pass``, ``seconds_per_update``, ``minutes`` of updates, ``teacher_outputs_minutes`` (to write the
        outputs that SeqKD and ImitKD* read; null if none are to be written), ``memory_mb`` (peak of
        this process, which encoded ``examples_sampled`` of ``examples``). Dev scores are not included. Rollouts of an
        untrained student run to the length limit, so ``minutes`` is rather too high.

    Raises:
        ConfigError, DataError, ModelError, VocabularyError: as the run itself would.
    """
    check_start(recipe)
    half = {"schedule": recipe.method.schedule.model_copy(update={"name": "constant", "value": 0.5, "warmup": 0.0})}
    sampled = recipe.model_copy(update={"method": recipe.method.model_copy(update=half)})
    console = Console(stderr=True)
    use_threads(recipe.training.threads, console)
    with Bar(console, shown=True) as bar:
        setup = set_up(sampled, bar, SAMPLE)
    scale = max(1.0, setup.examples / SAMPLE)
    trainer = Trainer(setup, PlaceholderOutputs(setup))
    state, seconds, counted = Progress(), 0.0, 0
    for number, group in enumerate(trainer.groups(state)):
        start = time.perf_counter()
        done = len(trainer.train_group(group, state.updates))
        state.updates += done
        if number > 0 or state.updates >= trainer.updates:
            seconds, counted = seconds + time.perf_counter() - start, counted + done
        if number + 1 == GROUPS or seconds > ENOUGH_SECONDS:
            break
    written = estimated_seconds(setup, label_engine)
    updates_per_pass = round(scale * trainer.batches.in_a_pass()) // recipe.training.accumulation
    updates = recipe.training.updates or max(1, round((recipe.training.epochs or 1) * updates_per_pass))
    student = count_parameters(setup.student)
    teacher = setup.teacher_facts.parameters if setup.teacher_facts else None
    return {
        "student_parameters": student,
        "teacher_parameters": teacher,
        "ratio": round(student / teacher, 3) if teacher else None,
        "examples": setup.examples,
        "examples_sampled": len(setup.train.sources),
        "updates": updates,
        "updates_per_pass": updates_per_pass,
        "seconds_per_update": round(seconds / counted, 3),
        "minutes": round(seconds / counted * updates / 60, 1),
        "teacher_outputs_minutes": None if written is None else round(written / 60, 1),
        "memory_mb": round(_peak_mb()),
    }


class PlaceholderOutputs(LiveTeacher):
    """Signal with references, or sources where there are none, for the teacher's outputs, which are timed apart.

    Distributions of a teacher that is not in memory are even ones.
    """

    def outputs(self, indices: Sequence[int], visits: Sequence[int]) -> list[TokenIds]:
        """See Signal."""
        train = self.setup.train
        return [train.targets[index] if train.targets.lengths[index] else train.sources[index] for index in indices]

    def logits(self, batch: Batch, contexts: Contexts, rows: Tensor, tokens: Tensor) -> Tensor:
        """See Signal."""
        if self.setup.teacher is not None:
            return super().logits(batch, contexts, rows, tokens)
        return torch.zeros(int(contexts.loss_mask[rows].sum()), len(tokens), device=tokens.device)


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
