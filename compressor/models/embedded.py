"""Base of all architectures: embeddings of tokens and the output layer, one matrix, two or three.

Shapes: batch, len, d, vocab.
"""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.model_config import ModelConfig
from compressor.models.base import Seq2SeqModel
from compressor.models.layer_copy import copy_embeddings

TABLES: dict[bool | str, tuple[str, ...]] = {
    True: ("shared",),
    "target": ("source", "shared"),
    False: ("source", "target", "output"),
}
"""Matrices of embeddings, by ``tie_embeddings``; ``shared`` stands for those that have no matrix of their own."""


class EmbeddedModel(Seq2SeqModel):
    """A model without layers. The embedding of padding, with which Marian starts decoding, is zero."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.scale = config.d_model**0.5 if config.scale_embedding else 1.0
        self.embedding = nn.ParameterDict(
            {
                name: nn.Parameter(torch.empty(config.vocab_size, config.d_model))
                for name in TABLES[config.tie_embeddings]
            }
        )
        self.output_bias = nn.Parameter(torch.zeros(config.vocab_size))

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

    def _look_up(self, tokens: Tensor, side: str) -> Tensor:
        """Returns scaled embeddings [batch, len, d] of tokens [batch, len]."""
        return F.embedding(tokens, self._table(side), padding_idx=self.config.pad_id) * self.scale

    def output_layer(self, tokens: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See Seq2SeqModel."""
        table, bias = self._table("output"), self.output_bias
        return (table, bias) if tokens is None else (table.index_select(0, tokens), bias.index_select(0, tokens))

    def restrict_output(self, tokens: Tensor) -> None:
        """See Seq2SeqModel; the output layer no longer shares the embedding."""
        self.embedding["output"] = nn.Parameter(self._table("output").detach()[tokens])
        self.output_bias = nn.Parameter(self.output_bias.detach()[tokens])

    def with_vocabulary(self, tokens: Tensor, pad_id: int) -> Self:
        """See Seq2SeqModel."""
        smaller = type(self)(self.config.model_copy(update={"vocab_size": len(tokens), "pad_id": pad_id}))
        weights = {
            name: weight[tokens.to(weight.device)] if name.startswith(("embedding.", "output_bias")) else weight
            for name, weight in self.state_dict().items()
        }
        smaller.load_state_dict(weights, assign=True)
        return smaller.to(self.output_bias.device).eval().requires_grad_(False)

    def target_embeddings(self) -> Tensor:
        """See Seq2SeqModel."""
        return self._table("target").detach() * self.scale

    def load_embeddings(self, table: Tensor) -> None:
        """See Seq2SeqModel and ``copy_embeddings``."""
        for parameter in self.embedding.values():
            copy_embeddings(table, parameter, self.config.pad_id)
