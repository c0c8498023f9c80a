"""Trainers that share one teacher and one corpus in memory, each with its own student, and the batches of all."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from compressor.config import Recipe
from compressor.data.batching import Batch
from compressor.distillation.contexts import TokenIds
from compressor.distillation.label_engines import n_best, torch_engine
from compressor.distillation.setup import Setup
from compressor.distillation.signals import LiveTeacher, Signal
from compressor.distillation.trainer import Trainer
from compressor.errors import ModelError
from compressor.method_config import MethodConfig
from compressor.method_table import METHODS, MethodName
from compressor.models.weights import load_run

BETA = 0.0
"""Rollouts alone: where ImitKD takes longest."""


class WrittenOutputs(LiveTeacher):
    """Signal whose outputs the teacher has written before, as it writes labels; they are in memory."""

    def __init__(self, setup: Setup, work: Sequence[Sequence[Batch]]) -> None:
        """Has the teacher write an output of each source of some groups of batches."""
        super().__init__(setup)
        indices = sorted({index for group in work for batch in group for index in batch.indices})
        sources = [setup.train.sources[index].tolist() for index in indices]
        searched = n_best(torch_engine(setup), setup.recipe, setup.generation.eos_id, sources, 1)
        self._written = {index: best.tokens for index, (best,) in zip(indices, searched, strict=True)}

    def outputs(self, indices: Sequence[int], visits: Sequence[int]) -> list[TokenIds]:
        """See Signal."""
        return [self._written[index] for index in indices]


def settings_of(method: MethodName) -> list[str]:
    """Returns overrides with which methods are compared.

    All have the same data, sources with references, and one batch an update; ImitKD has rollouts alone.

    What the recipe sets for its own method, and another would refuse, gets its default.
    """
    schedule = [f"method.schedule={{name: constant, value: {BETA}}}"]  # replaces the whole schedule, warm-up included
    fields = MethodConfig.model_fields.keys() - {"name", "schedule", "rollout", "label_smoothing"}
    defaults = [f"method.{field}={json.dumps(MethodConfig.model_fields[field].default)}" for field in sorted(fields)]
    rollout = [] if METHODS[method].uses_rollouts else ["method.rollout.strategy=greedy", "method.rollout.replay=0.0"]
    return [f"method.name={method}", "data.mono=[]", "training.accumulation=1", *defaults, *schedule, *rollout]


def start_from(run: Path, setup: Setup) -> None:
    """Gives the student the weights of a run. Raises ModelError if its architecture is another."""
    model = load_run(run).model
    if model.config != setup.student.config:
        raise ModelError(f"{run}: its architecture is not the recipe's student; give the recipe that made it")
    setup.student.load_state_dict(model.state_dict())


def trainer_of(setup: Setup, recipe: Recipe, signal: Signal | None = None) -> Trainer:
    """Returns a trainer with its own copy of the student, and the shared data and teacher."""
    return Trainer(replace(setup, recipe=recipe, student=copy.deepcopy(setup.student)), signal)


def groups_of(trainer: Trainer, size: int, count: int) -> list[list[Batch]]:
    """Returns the first ``count`` groups of ``size`` batches."""
    batches = trainer.batches.epoch(0)
    groups = [list(itertools.islice(batches, size)) for _ in range(count)]
    return [group for group in groups if group]
