"""What a recipe will cost, found by doing a little of it."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

from compressor.config import Recipe
from compressor.distillation.checkpoint import Progress
from compressor.distillation.setup import set_up
from compressor.distillation.signals import estimated_seconds
from compressor.distillation.trainer import Trainer, recipe_digest
from compressor.models.base import count_parameters

GROUPS = 3
"""Groups of batches that are timed; the first one warms up and does not count."""


def estimate(recipe: Recipe) -> dict[str, Any]:
    """Sizes of teacher and student, and the time and memory of the run, from a few real updates at β = 1/2.

    Returns:
        ``student_parameters``, ``teacher_parameters`` (null without a teacher), ``ratio``, ``updates``,
        ``updates_per_pass``, ``seconds_per_update``, ``minutes`` of updates, ``teacher_outputs_minutes`` for what
        SeqKD and ImitKD* have the teacher write beforehand (else null), ``memory_mb`` (peak of this process). Time
        for dev scores is not in it. A young student's rollouts end late, so ``minutes`` leans to the high side.

    Raises:
        DataError, ModelError, VocabularyError: as the run itself would.
    """
    half = {"schedule": recipe.method.schedule.model_copy(update={"name": "constant", "value": 0.5, "warmup": 0.0})}
    setup = set_up(recipe.model_copy(update={"method": recipe.method.model_copy(update=half)}))
    trainer = Trainer(setup)
    state, seconds, counted = Progress(recipe_digest(recipe)), 0.0, 0
    for number, group in enumerate(trainer.groups(state)):
        start = time.perf_counter()
        trainer.train_group(group, state.updates)
        state.updates += len(group)
        if number > 0 or state.updates >= trainer.updates:
            seconds, counted = seconds + time.perf_counter() - start, counted + len(group)
        if number + 1 == GROUPS:
            break
    written = estimated_seconds(setup)
    student = count_parameters(setup.student)
    teacher = setup.teacher.parameters if setup.teacher else None
    return {
        "student_parameters": student,
        "teacher_parameters": teacher,
        "ratio": round(student / teacher, 3) if teacher else None,
        "examples": len(setup.train.sources),
        "updates": trainer.updates,
        "updates_per_pass": len(trainer.batches.plan(0)),
        "seconds_per_update": round(seconds / counted, 3),
        "minutes": round(seconds / counted * trainer.updates / 60, 1),
        "teacher_outputs_minutes": None if written is None else round(written / 60, 1),
        "memory_mb": round(_peak_mb()),
    }


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
