"""The checkpoint that a killed run resumes from, and what its recipe may change then."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from compressor.config import Recipe, dump_recipe
from compressor.data.token_cache import digest_of
from compressor.distillation.replay import ReplayBuffer
from compressor.distillation.setup import Setup
from compressor.errors import ModelError
from compressor.files import remove_partial, write_atomic
from compressor.models.weights import load_weights, save_weights
from compressor.output_folder import REPLACED, new_folder
from compressor.recipe_files import leaves
from compressor.run_folder import (
    CHECKPOINT_FOLDER,
    PROGRESS_FILE,
    RECIPE_FILE,
    TOKENIZER_FOLDER,
    WEIGHTS_FILE,
    WEIGHTS_FOLDER,
    RunRecord,
    read_recipe,
)

AVERAGED_LOSSES = 20
"""Updates that the running mean of the loss goes back over."""
DIVERGED = 3
"""A run has diverged when the running mean is so many times its least value, and 1 nat more."""
LENGTH_FIELDS = ("updates", "epochs", "patience")
"""Fields of ``training`` that a resumed run may change: it then becomes longer."""
FREE_FIELDS = {
    "data": {"root", "cache"},
    "teacher": {"path", "labels", "label_engine"},
    "training": {
        *LENGTH_FIELDS,
        *("accumulation", "threads", "checkpoint_minutes", "wait_minutes", "keep_checkpoints", "tensorboard"),
    },
}
"""Fields that a resumed run may change: its length, places, and what decides its result to rounding at most.
``accumulation`` may change with the number of processes alone, see ``divide_among_processes``."""


@dataclass
class Progress:
    """Counters of a run between two groups of batches."""

    updates: int = 0
    epoch: int = 0
    stretch: int = 0
    """Stretches of this epoch that are done, see ``compressor.data.batching``."""
    batch: int = 0
    """Batches of this stretch that this process has trained on."""
    processes: int = 0
    """Processes that share the run; 0 where an older checkpoint does not say."""
    inputs: dict[str, str] | None = None
    """Digests of what the run learns from, see ``inputs_of``; None where an older checkpoint does not say."""
    seconds: float = 0.0
    """Of updates and of the teacher's outputs."""
    target_tokens: int = 0
    """Positions that carried loss, over all updates."""
    update_seconds: float = 0.0
    """Of updates, rollouts included."""
    rollout_seconds: float = 0.0
    recent_loss: float | None = None
    """Running mean of the loss."""
    least_loss: float | None = None
    """Least running mean."""
    best_score: float = -1.0
    best_update: int = 0
    without_gain: int = 0
    """Dev scores since the best one."""
    best_scores: dict[str, float | None] | None = None
    lost_mass: float | None = None
    """See ``VocabularyRecord``."""
    averaged: list[int] | None = None
    """Updates whose weights were averaged, if the best weights are an average."""
    fresh_optimizer: int = 0
    """Update at which the optimizer began without moments: the learning rate is warmed up from there on."""

    def has_diverged(self, loss: float) -> bool:
        """Takes in the loss of an update; returns whether the running mean is now far above its least value."""
        if self.recent_loss is None or self.least_loss is None:
            self.recent_loss = self.least_loss = loss
        self.recent_loss += (loss - self.recent_loss) / AVERAGED_LOSSES
        self.least_loss = min(self.least_loss, self.recent_loss)
        return self.recent_loss > DIVERGED * self.least_loss + 1


def progress_of(record: RunRecord) -> Progress:
    """Returns the counters of a finished run, whose optimizer is gone."""
    scores = [record.dev.bleu, record.dev.rouge1] if record.dev else []
    tokens, speed = record.target_tokens or 0, record.target_tokens_per_second
    update_seconds = tokens / speed if speed else 0.0
    return Progress(
        updates=record.updates or 0,
        epoch=record.epoch or 0,
        stretch=record.stretch or 0,
        batch=record.batch or 0,
        processes=record.processes or 0,
        seconds=record.seconds or 0.0,
        target_tokens=tokens,
        update_seconds=update_seconds,
        rollout_seconds=update_seconds * (record.rollout_time or 0.0),
        best_score=next((score for score in scores if score is not None), -1.0),
        best_update=record.best_update or 0,
        best_scores=record.dev.model_dump() if record.dev else None,
        lost_mass=record.vocabulary.lost_mass if record.vocabulary else None,
        averaged=list(record.averaged) if record.averaged else None,
        fresh_optimizer=record.updates or 0,
    )


def inputs_of(setup: Setup) -> dict[str, str]:
    """Returns digests of what a run learns from, by the names of the recipe's fields."""
    data, teacher = setup.data, setup.teacher_facts
    files = [(file.name, file.rows, file.sha256) for file in (*data.train, *data.mono, *data.dev)]
    inputs = {"data": hashlib.sha256(json.dumps(files).encode()).hexdigest(), "tokenizer": digest_of(setup.tokenizer)}
    return inputs if teacher is None else inputs | {"teacher": teacher.digest()}


def changed_inputs(progress: Progress, setup: Setup) -> list[str]:
    """Returns what a run learned from and would not learn from when it goes on with this setup, though named alike."""
    now, before = inputs_of(setup), progress.inputs or {}
    changed = [name for name in now if name in before and now[name] != before[name]]
    return [f"{name}: the content is another than when the run began" for name in changed]


def save_checkpoint(
    run: Path,
    recipe: Recipe,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    replay: ReplayBuffer | None = None,
) -> None:
    """Replaces the run's checkpoint in one step; raises StorageError and leaves the old one if that fails."""
    with new_folder(run / CHECKPOINT_FOLDER, force=True) as folder:
        save_weights(folder / WEIGHTS_FILE, model.state_dict())
        moments = {
            f"{index}.{name}": value
            for index, state in optimizer.state_dict()["state"].items()
            for name, value in state.items()
        }
        save_weights(folder / "optimizer.safetensors", moments)
        if replay is not None and replay.probability:
            replay.save(folder)
        write_atomic(folder / RECIPE_FILE, dump_recipe(recipe))
        write_atomic(folder / PROGRESS_FILE, json.dumps(asdict(progress), indent=1) + "\n")


def load_checkpoint(
    run: Path, model: nn.Module, optimizer: torch.optim.Optimizer, replay: ReplayBuffer | None = None
) -> Progress:
    """Loads the last checkpoint into ``model``, ``optimizer`` and ``replay``, and returns its counters.

    Raises:
        ModelError: the checkpoint is missing or damaged.
    """
    folder = run / CHECKPOINT_FOLDER
    try:
        counters = json.loads((folder / PROGRESS_FILE).read_text(encoding="utf-8"))
        counters.pop("recipe_digest", None)  # of checkpoints without a recipe
        progress = Progress(**counters)
        tensors = load_file(folder / "optimizer.safetensors")
    except FileNotFoundError:
        raise ModelError(
            f"{folder}: no checkpoint to resume from; start without {{resume}}", options=["resume"]
        ) from None
    except (ValueError, TypeError, SafetensorError) as error:
        message = f"{folder}: the checkpoint is damaged ({error}); start again with {{force}}"
        raise ModelError(message, options={"force": True}) from None
    load_weights(folder / WEIGHTS_FILE, model)
    if replay is not None and replay.probability:
        replay.load(folder)
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        index, moment = name.split(".")
        state.setdefault(int(index), {})[moment] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return progress


def divide_among_processes(progress: Progress, recorded: Recipe, recipe: Recipe, processes: int) -> None:
    """Makes the counters those of another number of processes, whose updates have the same batches.

    Raises:
        ModelError: an update would have another number of batches than those before it.
    """
    before = progress.processes or processes
    together, now = before * recorded.training.accumulation, processes * recipe.training.accumulation
    if together != now:
        cure = (
            f"give training.accumulation={together // processes}"
            if together % processes == 0
            else f"start a number of processes that divides {together}"
        )
        raise ModelError(
            f"the run's updates have {together} batches (processes × training.accumulation), and would now have {now}; "
            f"with {processes} process{'es' * (processes > 1)} {cure}"
        )
    progress.batch = progress.batch * before // processes
    progress.processes = processes


def restore_replaced(run: Path) -> None:
    """Undoes the last replacement of the checkpoint if a kill cut it short, and removes what kills left."""
    for left in sorted(run.glob(f".{CHECKPOINT_FOLDER}.*"), key=lambda path: path.stat().st_mtime_ns, reverse=True):
        old = left / REPLACED
        if old.is_dir() and not (run / CHECKPOINT_FOLDER).exists():
            old.replace(run / CHECKPOINT_FOLDER)
        shutil.rmtree(left)
    for folder in (run, run / TOKENIZER_FOLDER, run / WEIGHTS_FOLDER):
        remove_partial(folder)


def recorded_recipe(run: Path) -> Recipe | None:
    """Returns the recipe of a run's checkpoint, else that of its best weights; None if there is neither."""
    return read_recipe(run / CHECKPOINT_FOLDER) or read_recipe(run)


def differences(recorded: Recipe, recipe: Recipe) -> list[str]:
    """Returns a line for each field that a resumed run must not change, and that differs."""
    old, new = (leaves(one.model_dump(mode="json", exclude=FREE_FIELDS)) for one in (recorded, recipe))
    return [f"{name} was {old.get(name)}, is {new.get(name)}" for name in old | new if old.get(name) != new.get(name)]


def same_length(recorded: Recipe, recipe: Recipe) -> bool:
    """Returns whether two recipes have equally many updates or epochs."""
    return all(getattr(recorded.training, name) == getattr(recipe.training, name) for name in LENGTH_FIELDS)
