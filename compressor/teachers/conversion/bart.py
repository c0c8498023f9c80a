"""Converts BART checkpoints, which have learned positions and a layer norm after the embedding."""

from __future__ import annotations

from transformers import BartForConditionalGeneration

from compressor.errors import ModelError
from compressor.models.transformer import Transformer
from compressor.teachers.conversion.marian import native_config, native_weights
from compressor.teachers.conversion.registry import register_conversion

OFFSET = 2
"""Rows of the position tables that precede the first position."""


@register_conversion(BartForConditionalGeneration)
def from_bart(bart: BartForConditionalGeneration) -> Transformer:
    """Converts a BART checkpoint to a ``Transformer`` with the same weights and logits.

    Raises:
        ModelError: ``Transformer`` does not cover the checkpoint's layout (untied output layer).
    """
    config = native_config(bart, positions="learned", embedding_norm=True)
    model, theirs = Transformer(config).eval(), bart.state_dict()
    state = native_weights(model, theirs)
    for side, name in (("source", "encoder"), ("target", "decoder")):
        table = theirs[f"model.{name}.embed_positions.weight"][OFFSET:]
        if table.shape[0] != config.max_length:
            raise ModelError(f"the checkpoint has {table.shape[0]} positions, its configuration {config.max_length}")
        state[f"learned_positions.{side}"] = table
        for kind in ("weight", "bias"):
            state[f"embedding_norm.{side}.{kind}"] = theirs[f"model.{name}.layernorm_embedding.{kind}"]
    model.load_state_dict(state)
    return model
