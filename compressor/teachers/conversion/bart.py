"""BART checkpoints as models of our own: positions are learned, and embedded tokens are normed."""

from __future__ import annotations

from transformers import BartForConditionalGeneration

from compressor.errors import ModelError
from compressor.models.transformer import Transformer
from compressor.teachers.conversion.marian import native_config, native_weights

OFFSET = 2
"""Rows of the position tables before the first position."""


def from_bart(bart: BartForConditionalGeneration) -> Transformer:
    """The same weights under our names, with identical logits.

    Raises:
        ModelError: the checkpoint has a layout that ours does not cover (an output layer of its own).
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
