"""Which Hugging Face family has the layout of a model, decided from its configuration alone. Needs no torch."""

from __future__ import annotations

from typing import Literal, TypeGuard

from compressor.errors import ModelError
from compressor.generation_config import GenerationConfig
from compressor.model_config import ModelConfig, TransformerModelConfig

Family = Literal["marian", "bart"]


def has_marian_layout(model: ModelConfig, generation: GenerationConfig) -> bool:
    """Whether ``to_marian`` converts a model with this configuration."""
    return (
        _is_tied_post_norm(model)
        and model.positions == "sinusoidal"
        and not model.embedding_norm
        and generation.start_id == generation.pad_id
    )


def has_bart_layout(model: ModelConfig) -> bool:
    """Whether ``to_bart`` converts a model with this configuration."""
    return _is_tied_post_norm(model) and model.positions == "learned" and model.embedding_norm


def family_of(model: ModelConfig, generation: GenerationConfig) -> Family:
    """Returns the family whose classes compute what a model with this configuration computes.

    Raises:
        ModelError: there is none; says what differs.
    """
    if has_bart_layout(model):
        return "bart"
    if has_marian_layout(model, generation):
        return "marian"
    if not isinstance(model, TransformerModelConfig):
        raise ModelError(
            f"transformers has no class for the architecture {model.architecture}: a post-norm Transformer can be "
            "written as MarianMT or BART, this model as a bundle (format onnx)"
        )
    raise ModelError(f"neither MarianMT nor BART has this layout ({_difference(model, generation)}); write a bundle")


def _is_tied_post_norm(model: ModelConfig) -> TypeGuard[TransformerModelConfig]:
    return isinstance(model, TransformerModelConfig) and model.norm == "post" and model.tie_embeddings is True


def _difference(model: TransformerModelConfig, generation: GenerationConfig) -> str:
    """Returns in which fields a Transformer has neither layout."""
    if model.norm != "post":
        return f"norm is {model.norm}, theirs is post-norm"
    if model.tie_embeddings is not True:
        return f"tie_embeddings is {str(model.tie_embeddings).lower()}, theirs are tied"
    if model.positions == "sinusoidal" and not model.embedding_norm:
        return (
            f"decoding starts from token {generation.start_id}, MarianMT's from padding; a student of a BART teacher "
            "can have BART's layout, with positions: learned and embedding_norm: true in the recipe's student"
        )
    return (
        f"positions are {model.positions} and embedding_norm is {str(model.embedding_norm).lower()}; "
        "BART has learned positions and that norm, MarianMT neither"
    )
