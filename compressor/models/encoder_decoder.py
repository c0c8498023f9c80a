"""Base of all architectures: embeddings, Transformer encoder, output layer, and initialization from a teacher.

Shapes: batch, source_len, context_len, d, vocab. Parameters have the names and the layout of Marian's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.model_config import ModelConfig
from compressor.models.base import Memory, Seq2SeqModel
from compressor.models.dropout import dropout
from compressor.models.layer_copy import copy_embeddings, copy_layers
from compressor.models.layers import EncoderLayer, sinusoidal_positions

SIDES = ("source", "target")


class EncoderDecoder(Seq2SeqModel):
    """A model without decoder layers. The embedding of padding, with which Marian starts decoding, is zero."""

    DecoderLayer: ClassVar[type[nn.Module]]
    """Class of a decoder layer; its only argument is the configuration."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.scale = config.d_model**0.5 if config.scale_embedding else 1.0
        names = ["shared"] if config.tie_embeddings else ["source", "target", "output"]
        self.embedding = nn.ParameterDict(
            {name: nn.Parameter(torch.empty(config.vocab_size, config.d_model)) for name in names}
        )
        self.output_bias = nn.Parameter(torch.zeros(config.vocab_size))
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

    def _initialise(self) -> None:
        """Initializes weights with Xavier uniform, biases with zero, embeddings with a normal distribution."""
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for table in self.embedding.values():
            nn.init.normal_(table, std=self.config.d_model**-0.5)
        self.zero_padding()

    @torch.no_grad()
    def zero_padding(self) -> None:
        """Sets the embedding of padding to zero."""
        for table in self.embedding.values():
            table[self.config.pad_id] = 0.0

    def _table(self, name: str) -> Tensor:
        """Returns the embedding of a side, or the one that both sides share."""
        table: Tensor = self.embedding[name if name in self.embedding else "shared"]
        return table

    def _positions(self, side: str) -> Tensor:
        """Returns the position embeddings of a side, [max_length, d]."""
        table: Tensor = self.learned_positions.get(side, self.positions)
        return table

    def _embed(self, tokens: Tensor, positions: Tensor, side: str) -> Tensor:
        """Returns embeddings [batch, len, d] of tokens [batch, len] at ``positions`` [len, d]."""
        embedded = F.embedding(tokens, self._table(side), padding_idx=self.config.pad_id) * self.scale
        normed = self.embedding_norm[side](embedded + positions)
        return dropout(normed, self.config.dropout, self.training)

    def encode(self, source: Tensor, source_mask: Tensor) -> Memory:
        """See Seq2SeqModel."""
        hidden = self._embed(source, self._positions("source")[: source.shape[1]], "source")
        mask = source_mask[:, None, None, :]
        for layer in self.encoder:
            hidden = layer(hidden, mask, self.fused_attention)
        return Memory(self.encoder_norm(hidden), source_mask)

    def output_layer(self, tokens: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See Seq2SeqModel."""
        table, bias = self._table("output"), self.output_bias
        return (table, bias) if tokens is None else (table.index_select(0, tokens), bias.index_select(0, tokens))

    def restrict_output(self, tokens: Tensor) -> None:
        """See Seq2SeqModel; the output layer no longer shares the embedding."""
        self.embedding["output"] = nn.Parameter(self._table("output").detach()[tokens])
        self.output_bias = nn.Parameter(self.output_bias.detach()[tokens])

    def target_embeddings(self) -> Tensor:
        """See Seq2SeqModel."""
        return self._table("target").detach() * self.scale

    def load_embeddings(self, table: Tensor) -> None:
        """See Seq2SeqModel and ``copy_embeddings``."""
        for parameter in self.embedding.values():
            copy_embeddings(table, parameter, self.config.pad_id)

    def load_layers(self, teacher: Seq2SeqModel) -> None:
        """See Seq2SeqModel and ``copy_layers``."""
        copy_layers(teacher, self)
