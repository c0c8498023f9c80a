"""Whether a model has the layout of a Hugging Face family, decided from its configuration alone. Needs no torch."""

from __future__ import annotations

from compressor.generation_config import GenerationConfig
from compressor.model_config import ModelConfig, TransformerModelConfig


def has_marian_layout(model: ModelConfig, generation: GenerationConfig) -> bool:
    """Whether ``to_marian`` converts a model with this configuration."""
    return (
        isinstance(model, TransformerModelConfig)
        and model.norm == "post"
        and model.tie_embeddings is True
        and model.positions == "sinusoidal"
        and not model.embedding_norm
        and generation.start_id == generation.pad_id
    )
