"""Base of the architectures whose encoder is a Transformer's, and their initialization from a teacher.

Shapes: batch, source_len, d. Parameters have the names and the layout of Marian's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from compressor.model_config import LayeredModelConfig
from compressor.models.base import Memory, Seq2SeqModel
from compressor.models.dropout import dropout
from compressor.models.embedded import EmbeddedModel
from compressor.models.layer_copy import copy_layers
from compressor.models.layers import EncoderLayer, sinusoidal_positions

SIDES = ("source", "target")


class EncoderDecoder(EmbeddedModel):
    """A model without decoder layers."""

    config: LayeredModelConfig
    DecoderLayer: ClassVar[type[nn.Module]]
    """Class of a decoder layer; its only argument is the configuration."""

    def __init__(self, config: LayeredModelConfig) -> None:
        super().__init__(config)
        encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.encoder: Sequence[EncoderLayer] = encoder  # type: ignore[assignment]  # a ModuleList of these
        decoder = nn.ModuleList(self.DecoderLayer(config) for _ in range(config.decoder_layers))
        self.decoder: Sequence[Any] = decoder  # type: ignore[assignment]
        pre = config.norm == "pre"
        self.encoder_norm = nn.LayerNorm(config.d_model) if pre else nn.Identity()
        self.decoder_norm = nn.LayerNorm(config.d_model) if pre else nn.Identity()
        norms = {side: nn.LayerNorm(config.d_model) if config.embedding_norm else nn.Identity() for side in SIDES}
        self.embedding_norm = nn.ModuleDict(norms)
        self.positions: Tensor
        self.register_buffer("positions", sinusoidal_positions(config.max_length, config.d_model), persistent=False)
        learned = SIDES if config.positions == "learned" else ()
        self.learned_positions = nn.ParameterDict(
            {side: nn.Parameter(torch.empty(config.max_length, config.d_model)) for side in learned}
        )
        self._initialise()
        with torch.no_grad():
            for table in self.learned_positions.values():  # of the size that sines have beside the embeddings
                table.copy_(self.positions * (self.scale * config.d_model**-0.5))

    def _positions(self, side: str) -> Tensor:
        """Returns the position embeddings of a side, [max_length, d]."""
        table: Tensor = self.learned_positions.get(side, self.positions)
        return table

    def _embed(self, tokens: Tensor, positions: Tensor, side: str) -> Tensor:
        """Returns embeddings [batch, len, d] of tokens [batch, len] at ``positions`` [len, d]."""
        normed = self.embedding_norm[side](self._look_up(tokens, side) + positions)
        return dropout(normed, self.config.dropout, self.training)

    def encode(self, source: Tensor, source_mask: Tensor) -> Memory:
        """See Seq2SeqModel."""
        hidden = self._embed(source, self._positions("source")[: source.shape[1]], "source")
        mask = source_mask[:, None, None, :]
        for layer in self.encoder:
            hidden = layer(hidden, mask, self.fused_attention)
        return Memory(self.encoder_norm(hidden), source_mask)

    def load_layers(self, teacher: Seq2SeqModel) -> None:
        """See Seq2SeqModel and ``copy_layers``."""
        copy_layers(teacher, self)
