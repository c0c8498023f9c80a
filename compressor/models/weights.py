"""Reads and writes tensors (safetensors), and whole runs: a model with its tokenizer and its records."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from compressor.config import Recipe
from compressor.errors import ModelError
from compressor.files import PARTIAL, storage_errors
from compressor.generation_config import GenerationConfig
from compressor.models.base import Seq2SeqModel
from compressor.models.registry import build_model
from compressor.run_folder import (
    MODEL_FILE,
    TOKENIZER_FOLDER,
    WEIGHTS_FILE,
    ModelRecord,
    RunRecord,
    read_model,
    read_recipe,
    read_record,
    write_records,
)
from compressor.text.tokenizer import Tokenizer, load_tokenizer


@dataclass
class Run:
    """A model in memory, with its search defaults, tokenizer, recipe and record."""

    model: Seq2SeqModel
    generation: GenerationConfig
    tokenizer: Tokenizer
    recipe: Recipe | None = None
    record: RunRecord = field(default_factory=RunRecord)


def save_run(folder: Path, run: Run, *, weights: bool = True) -> None:
    """Writes a run into a folder, which is made if necessary; each file whole or not at all.

    Args:
        folder: The run folder.
        run: What to write.
        weights: False leaves the weights that are in the folder.

    Raises:
        StorageError: the disk is full or the folder not writable.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        run.tokenizer.save(folder / TOKENIZER_FOLDER)
    if weights:
        save_weights(folder / WEIGHTS_FILE, run.model.state_dict(), torch.float16)
    write_records(folder, ModelRecord(model=run.model.config, generation=run.generation), run.record, run.recipe)


def load_run(folder: Path) -> Run:
    """Reads a run; weights are fp32 in memory and the model is in eval mode.

    Raises:
        ModelError: a file is missing, damaged or does not fit the architecture.
        ConfigError: the recipe is wrong.
    """
    described, record = read_model(folder), read_record(folder)
    model = build_model(described.model)
    load_weights(folder / WEIGHTS_FILE, model)
    tokenizer = load_tokenizer(folder / TOKENIZER_FOLDER)
    return Run(model.eval(), described.generation, tokenizer, read_recipe(folder), record)


def save_weights(path: Path, weights: dict[str, Tensor], dtype: torch.dtype | None = None) -> None:
    """Writes tensors as safetensors, floating ones as ``dtype`` if given. Raises StorageError."""
    tensors = {
        name: (tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor).detach().cpu().contiguous()
        for name, tensor in weights.items()
    }
    temporary = path.with_name(f".{path.name}{PARTIAL}")
    with storage_errors(path):
        try:
            save_file(tensors, temporary)
            temporary.chmod(0o644)
            temporary.replace(path)
        except SafetensorError as error:  # wraps the operating system's error as text
            if "No space left" in str(error):
                raise OSError(28, "No space left on device") from None
            raise
        finally:
            temporary.unlink(missing_ok=True)


def load_weights(path: Path, model: torch.nn.Module) -> None:
    """Fills a model from safetensors. Raises ModelError if names or shapes differ, or the file is damaged."""
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise ModelError(f"{path}: missing") from None
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: damaged or truncated ({error})") from None
    try:
        model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise ModelError(f"{path}: does not fit the architecture in {MODEL_FILE} ({detail})") from None
