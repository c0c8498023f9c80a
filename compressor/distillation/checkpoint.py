"""The checkpoint that a killed run resumes from: weights and optimizer as safetensors, counters as JSON."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from compressor.config import Recipe
from compressor.errors import ModelError
from compressor.files import write_atomic
from compressor.models.weights import load_weights, save_weights
from compressor.output_folder import new_folder
from compressor.run_folder import CHECKPOINT_FOLDER, PROGRESS_FILE, WEIGHTS_FILE


@dataclass
class Progress:
    """Counters of a run between two groups of batches."""

    recipe_digest: str
    updates: int = 0
    epoch: int = 0
    batch: int = 0
    """Batches of this epoch that this process has trained on."""
    seconds: float = 0.0
    best_score: float = -1.0
    best_update: int = 0
    best_scores: dict[str, float | None] | None = None


def save_checkpoint(run: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Replaces the run's checkpoint in one step; raises StorageError and leaves the old one if that fails."""
    with new_folder(run / CHECKPOINT_FOLDER, force=True) as folder:
        save_weights(folder / WEIGHTS_FILE, model.state_dict())
        moments = {
            f"{index}.{name}": value
            for index, state in optimizer.state_dict()["state"].items()
            for name, value in state.items()
        }
        save_weights(folder / "optimizer.safetensors", moments)
        write_atomic(folder / PROGRESS_FILE, json.dumps(asdict(progress), indent=1) + "\n")


def load_checkpoint(run: Path, model: nn.Module, optimizer: torch.optim.Optimizer, recipe_digest: str) -> Progress:
    """Loads the last checkpoint into ``model`` and ``optimizer`` and returns its counters.

    Raises:
        ModelError: the checkpoint is missing, damaged, or of another recipe.
    """
    folder = run / CHECKPOINT_FOLDER
    try:
        progress = Progress(**json.loads((folder / PROGRESS_FILE).read_text(encoding="utf-8")))
        tensors = load_file(folder / "optimizer.safetensors")
    except FileNotFoundError:
        raise ModelError(
            f"{folder}: no checkpoint to resume from; start without {{resume}}", options=["resume"]
        ) from None
    except (ValueError, TypeError, SafetensorError) as error:
        message = f"{folder}: the checkpoint is damaged ({error}); start again with {{force}}"
        raise ModelError(message, options={"force": True}) from None
    if progress.recipe_digest != recipe_digest:
        message = f"{folder}: belongs to another recipe; resume with the same one, or start again with {{force}}"
        raise ModelError(message, options={"force": True})
    load_weights(folder / WEIGHTS_FILE, model)
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        index, moment = name.split(".")
        state.setdefault(int(index), {})[moment] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return progress


def recipe_digest(recipe: Recipe) -> str:
    """Returns a digest of the fields that decide a run's result: all but paths, threads and checkpoint times."""
    excluded = {"data": {"root", "cache"}, "teacher": {"path"}, "training": {"threads", "checkpoint_minutes"}}
    return hashlib.sha256(recipe.model_dump_json(exclude=excluded).encode()).hexdigest()
