"""The weights at the last dev scores: files in the run folder, named by update, and their mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from compressor.models.weights import load_weights, save_weights
from compressor.run_folder import WEIGHTS_FOLDER


def save_numbered(run: Path, model: nn.Module, update: int, keep: int) -> None:
    """Writes a model's weights as fp16 and deletes all but the newest ``keep`` files. Raises StorageError."""
    if keep:
        path = _path(run, update)
        path.parent.mkdir(exist_ok=True)
        save_weights(path, model.state_dict(), torch.float16)
    delete_numbered(run, keep)


def delete_numbered(run: Path, keep: int, until: int | None = None) -> None:
    """Deletes weights: those after update ``until`` (None: none), and of the others all but the newest ``keep``."""
    numbers = numbered(run)
    valid = [number for number in numbers if until is None or number <= until]
    for number in set(numbers) - set(valid[max(0, len(valid) - keep) :]):
        _path(run, number).unlink()
    folder = run / WEIGHTS_FOLDER
    if not keep and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def numbered(run: Path) -> list[int]:
    """Returns the updates whose weights are there, ascending."""
    names = [path.stem for path in (run / WEIGHTS_FOLDER).glob("*.safetensors")]
    return sorted(int(name) for name in names if name.isdecimal())


def load_average(run: Path, updates: Sequence[int], model: nn.Module) -> None:
    """Fills a model with the mean of the weights at these updates. Raises ModelError if a file is damaged."""
    total: dict[str, Tensor] = {}
    for update in updates:
        load_weights(_path(run, update), model)
        for name, tensor in model.state_dict().items():
            total[name] = total.get(name, torch.zeros_like(tensor, dtype=torch.float64)) + tensor
    model.load_state_dict({name: tensor / len(updates) for name, tensor in total.items()})


def _path(run: Path, update: int) -> Path:
    return run / WEIGHTS_FOLDER / f"{update:06}.safetensors"
