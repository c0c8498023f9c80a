"""Converts between the project's Transformers and BART: learned positions, and a layer norm after the embedding."""

from __future__ import annotations

import torch.nn.functional as F
from transformers import BartConfig, BartForConditionalGeneration

from compressor.errors import ModelError
from compressor.generation_config import GenerationConfig
from compressor.models.base import Seq2SeqModel
from compressor.models.transformer import Transformer
from compressor.teachers.conversion.layout import has_bart_layout
from compressor.teachers.conversion.marian import (
    hf_config,
    hf_generation_config,
    hf_weights,
    native_config,
    native_weights,
)
from compressor.teachers.conversion.registry import register_conversion

OFFSET = 2
"""Rows of the position tables that precede the first position."""
SIDES = (("source", "encoder"), ("target", "decoder"))
"""The project's name of a side, and BART's."""
NORM_FIELDS = {"normalize_before": False, "normalize_embedding": True}
"""Fields of ``config.json`` that published BART models have, and CTranslate2's converter reads."""


def to_bart(model: Seq2SeqModel, generation: GenerationConfig) -> BartForConditionalGeneration:
    """Converts a Transformer to BART with the same weights; greedy outputs are identical.

    Raises:
        ModelError: the model's layout is not BART's (post-norm, tied embeddings, learned positions, a layer norm of
            the embeddings).
    """
    if not (isinstance(model, Transformer) and has_bart_layout(model.config)):
        raise ModelError(
            "only a post-norm Transformer with tied embeddings, learned positions and embedding_norm has BART's layout"
        )
    fields = hf_config(model, generation) | NORM_FIELDS
    if generation.forced_bos_id is not None:
        fields["bos_token_id"] = generation.forced_bos_id
    bart = BartForConditionalGeneration(BartConfig(**fields)).eval()
    state, ours = hf_weights(model), model.state_dict()
    for side, name in SIDES:
        table = ours[f"learned_positions.{side}"]
        state[f"model.{name}.embed_positions.weight"] = F.pad(table, (0, 0, OFFSET, 0))
        for kind in ("weight", "bias"):
            state[f"model.{name}.layernorm_embedding.{kind}"] = ours[f"embedding_norm.{side}.{kind}"]
    differing = bart.load_state_dict(state, strict=False)
    names = [*differing.missing_keys, *differing.unexpected_keys]
    if names:
        raise ModelError(f"BART of this transformers version has other parameters: {names[:3]}")
    bart.generation_config = hf_generation_config(generation)
    return bart


@register_conversion(BartForConditionalGeneration)
def from_bart(bart: BartForConditionalGeneration) -> Transformer:
    """Converts a BART checkpoint to a ``Transformer`` with the same weights and logits.

    Raises:
        ModelError: ``Transformer`` does not cover the checkpoint's layout (untied output layer).
    """
    config = native_config(bart, positions="learned", embedding_norm=True)
    model, theirs = Transformer(config).eval(), bart.state_dict()
    state = native_weights(model, theirs)
    for side, name in SIDES:
        table = theirs[f"model.{name}.embed_positions.weight"][OFFSET:]
        if table.shape[0] != config.max_length:
            raise ModelError(f"the checkpoint has {table.shape[0]} positions, its configuration {config.max_length}")
        state[f"learned_positions.{side}"] = table
        for kind in ("weight", "bias"):
            state[f"embedding_norm.{side}.{kind}"] = theirs[f"model.{name}.layernorm_embedding.{kind}"]
    model.load_state_dict(state)
    return model
