"""A run folder: weights (safetensors, fp16), ``model.json``, tokenizer, recipe and ``run.json``."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from compressor.config import Recipe, dump_recipe, load_recipe
from compressor.errors import ModelError
from compressor.files import storage_errors, write_atomic
from compressor.generation_config import GenerationConfig
from compressor.model_config import ModelConfig
from compressor.models.base import Seq2SeqModel
from compressor.models.registry import build_model
from compressor.text.tokenizer import Tokenizer, load_tokenizer

MODEL_FILE, WEIGHTS_FILE, RECIPE_FILE, RUN_FILE, TOKENIZER_FOLDER = (
    "model.json",
    "model.safetensors",
    "recipe.yaml",
    "run.json",
    "tokenizer",
)


class ModelFile(BaseModel):
    """Content of ``model.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: ModelConfig
    generation: GenerationConfig


@dataclass
class Run:
    """A trained model with all that belongs to it."""

    model: Seq2SeqModel
    generation: GenerationConfig
    tokenizer: Tokenizer
    recipe: Recipe | None = None
    info: dict[str, Any] = field(default_factory=dict)
    """``run.json``: task, method, dev scores, updates, seconds, lineage and provenance."""


def is_run(folder: Path) -> bool:
    """Whether a folder holds a native model."""
    return (folder / MODEL_FILE).is_file()


def save_run(folder: Path, run: Run, *, weights: bool = True) -> None:
    """Writes a run into an existing or new folder, each file whole or not at all; ``weights`` false leaves them.

    Raises:
        StorageError: the disk is full or the folder not writable.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        run.tokenizer.save(folder / TOKENIZER_FOLDER)
    if weights:
        save_weights(folder / WEIGHTS_FILE, run.model.state_dict(), torch.float16)
    described = ModelFile(model=run.model.config, generation=run.generation)
    if run.recipe is not None:
        write_atomic(folder / RECIPE_FILE, dump_recipe(run.recipe))
    write_atomic(folder / RUN_FILE, json.dumps(run.info, indent=1, ensure_ascii=False) + "\n")
    write_atomic(folder / MODEL_FILE, described.model_dump_json(indent=1) + "\n")


def load_run(folder: Path) -> Run:
    """Opens a run; weights are fp32 in memory and the model is in eval mode.

    Raises:
        ModelError: a file is missing, damaged or does not fit the architecture.
    """
    if not is_run(folder):
        raise ModelError(f"{folder}: not a run folder ({MODEL_FILE} is missing)")
    try:
        described = ModelFile.model_validate_json((folder / MODEL_FILE).read_text(encoding="utf-8"))
        info = json.loads((folder / RUN_FILE).read_text(encoding="utf-8")) if (folder / RUN_FILE).exists() else {}
    except (ValidationError, ValueError, OSError) as error:
        raise ModelError(f"{folder}: {MODEL_FILE} or {RUN_FILE} is damaged ({str(error).splitlines()[0]})") from None
    model = build_model(described.model)
    load_weights(folder / WEIGHTS_FILE, model)
    recipe = load_recipe(folder / RECIPE_FILE) if (folder / RECIPE_FILE).exists() else None
    return Run(model.eval(), described.generation, load_tokenizer(folder / TOKENIZER_FOLDER), recipe, info)


def save_weights(path: Path, weights: dict[str, Tensor], dtype: torch.dtype | None = None) -> None:
    """Writes tensors as safetensors, floating ones as ``dtype`` if given. Raises StorageError."""
    tensors = {
        name: (tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor).detach().cpu().contiguous()
        for name, tensor in weights.items()
    }
    temporary = path.with_name(f".{path.name}.partial")
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
