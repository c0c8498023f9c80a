"""Whether a model has the layout of a Hugging Face family, decided from its configuration alone. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compressor.generation_config import GenerationConfig


def has_marian_layout(model: Mapping[str, Any], generation: GenerationConfig) -> bool:
    """Whether ``to_marian`` converts a model.

    Args:
        model: Fields of its configuration, as in ``model.json``; absent ones have their defaults.
        generation: Its generation configuration.
    """
    required = {"architecture": "transformer", "norm": "post", "tie_embeddings": True}
    same = all(model.get(name) == value for name, value in required.items())
    return same and model.get("positions", "sinusoidal") == "sinusoidal" and generation.start_id == generation.pad_id
