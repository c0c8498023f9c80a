"""What a killed run resumes from: weights and optimiser as safetensors, counters as JSON, swapped in whole."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from compressor.errors import ModelError
from compressor.files import new_folder, write_atomic
from compressor.models.weights import load_weights, save_weights
from compressor.run_folder import CHECKPOINT_FOLDER


@dataclass
class Progress:
    """Where a run stands, at the boundary of a group of batches."""

    recipe_digest: str
    updates: int = 0
    epoch: int = 0
    batch: int = 0
    """Batches of the epoch that are done."""
    seconds: float = 0.0
    best_score: float = -1.0
    best_update: int = 0
    best_scores: dict[str, float | None] | None = None


def save_checkpoint(run: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Replaces the run's checkpoint in one step. Raises StorageError, and the old checkpoint stays."""
    with new_folder(run / CHECKPOINT_FOLDER, force=True) as folder:
        save_weights(folder / "model.safetensors", model.state_dict())
        moments = {
            f"{index}.{name}": value
            for index, state in optimizer.state_dict()["state"].items()
            for name, value in state.items()
        }
        save_weights(folder / "optimizer.safetensors", {**moments, "torch_rng": torch.get_rng_state()})
        write_atomic(folder / "progress.json", json.dumps(asdict(progress), indent=1) + "\n")


def load_checkpoint(run: Path, model: nn.Module, optimizer: torch.optim.Optimizer, recipe_digest: str) -> Progress:
    """Puts a run back to its last checkpoint.

    Raises:
        ModelError: there is none, it is damaged, or it belongs to another recipe.
    """
    folder = run / CHECKPOINT_FOLDER
    try:
        progress = Progress(**json.loads((folder / "progress.json").read_text(encoding="utf-8")))
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
    load_weights(folder / "model.safetensors", model)
    torch.set_rng_state(tensors.pop("torch_rng"))
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        index, moment = name.split(".")
        state.setdefault(int(index), {})[moment] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return progress
