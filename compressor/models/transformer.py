"""A Transformer with separate encoder and decoder depth (Vaswani et al. 2017), laid out as Marian by default.

Shapes: batch, source_len, context_len, d, heads, head_dim, vocab, beams, entries = steps so far * beams.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.model_config import ModelConfig
from compressor.models.base import Memory, Seq2SeqModel
from compressor.models.layers import DecoderLayer, EncoderLayer, sinusoidal_positions

SIDES = ("source", "target")


class TransformerState(NamedTuple):
    """What ``step`` carries: one tensor a decoder layer in each tuple."""

    cross_key: tuple[Tensor, ...]
    """[batch, source_len, d]"""
    cross_value: tuple[Tensor, ...]
    """[batch, source_len, d]"""
    self_key: tuple[Tensor, ...]
    """[batch, heads, entries, head_dim]: one entry a step and beam"""
    self_value: tuple[Tensor, ...]
    """[batch, heads, entries, head_dim]: one entry a step and beam"""
    mask: Tensor
    """[batch, 1, 1, source_len] bool"""
    position: Tensor
    """int64 [1]: steps so far"""


class Transformer(Seq2SeqModel):
    """See the module's docstring. The embedding of padding, which Marian starts decoding from, is zero."""

    State = TransformerState

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.scale = config.d_model**0.5 if config.scale_embedding else 1.0
        names = ["shared"] if config.tie_embeddings else ["source", "target", "output"]
        self.embedding = nn.ParameterDict(
            {name: nn.Parameter(torch.empty(config.vocab_size, config.d_model)) for name in names}
        )
        self.output_bias = nn.Parameter(torch.zeros(config.vocab_size))
        encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.encoder: Sequence[EncoderLayer] = encoder  # type: ignore[assignment]  # a ModuleList of these
        self.decoder: Sequence[DecoderLayer] = decoder  # type: ignore[assignment]
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
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        for module in self.modules():
            if isinstance(module, nn.Linear):
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
        table: Tensor = self.embedding[name if name in self.embedding else "shared"]
        return table

    def _positions(self, side: str) -> Tensor:
        """The table of a side, [max_length, d]."""
        table: Tensor = self.learned_positions.get(side, self.positions)
        return table

    def _embed(self, tokens: Tensor, positions: Tensor, side: str) -> Tensor:
        """[batch, len] -> [batch, len, d]; ``positions`` [len, d]."""
        embedded = F.embedding(tokens, self._table(side), padding_idx=self.config.pad_id) * self.scale
        normed = self.embedding_norm[side](embedded + positions)
        return F.dropout(normed, self.config.dropout, self.training)

    def encode(self, source: Tensor, source_mask: Tensor) -> Memory:
        """See Seq2SeqModel."""
        hidden = self._embed(source, self._positions("source")[: source.shape[1]], "source")
        mask = source_mask[:, None, None, :]
        for layer in self.encoder:
            hidden = layer(hidden, mask, self.fused_attention)
        return Memory(self.encoder_norm(hidden), source_mask)

    def features(self, memory: Memory, context: Tensor) -> Tensor:
        """See Seq2SeqModel."""
        length = context.shape[1]
        hidden = self._embed(context, self._positions("target")[:length], "target")
        causal = torch.ones(length, length, dtype=torch.bool, device=context.device).tril()[None, None]
        cross_mask = memory.mask[:, None, None, :]
        for layer in self.decoder:
            cross = layer.cross_attention.memory(memory.hidden)
            hidden = layer(hidden, cross, causal, cross_mask, self.fused_attention)
        normed: Tensor = self.decoder_norm(hidden)
        return normed

    def project(self, features: Tensor, tokens: Tensor | None = None) -> Tensor:
        """See Seq2SeqModel."""
        table = self._table("output")
        if tokens is None:
            return F.linear(features, table, self.output_bias)
        return F.linear(features, table.index_select(0, tokens), self.output_bias.index_select(0, tokens))

    def restrict_output(self, tokens: Tensor) -> None:
        """See Seq2SeqModel; tied embeddings are tied no more."""
        self.embedding["output"] = nn.Parameter(self._table("output").detach()[tokens])
        self.output_bias = nn.Parameter(self.output_bias.detach()[tokens])

    def initial_state(self, memory: Memory) -> TransformerState:
        """See Seq2SeqModel; the self-attention cache is empty."""
        cross = [layer.cross_attention.memory(memory.hidden) for layer in self.decoder]
        keys, values = zip(*cross, strict=True)
        (batch, _, d), heads = memory.hidden.shape, self.config.num_heads
        empty = tuple(memory.hidden.new_zeros(batch, heads, 0, d // heads) for _ in cross)
        position = torch.zeros(1, dtype=torch.int64, device=memory.hidden.device)
        return TransformerState(keys, values, empty, empty, memory.mask[:, None, None, :], position)

    def step(
        self, token: Tensor, state: TransformerState, visible: Tensor | None = None, kept: Tensor | None = None
    ) -> tuple[Tensor, TransformerState]:
        """See Seq2SeqModel; beams are queries of one attention, so that neither memory nor cache is repeated."""
        tokens = token[:, None] if visible is None else token
        self_mask = None if visible is None else visible[:, None]
        hidden = self._embed(tokens, F.embedding(state.position, self._positions("target")), "target")
        keys, values = [], []
        for index, layer in enumerate(self.decoder):
            past = state.self_key[index], state.self_value[index]
            cross = state.cross_key[index], state.cross_value[index]
            hidden, key, value = layer.step(hidden, past, self_mask, cross, state.mask, self.fused_attention)
            keys.append(key)
            values.append(value)
        logits = self.project(self.decoder_norm(hidden), kept)
        following = state._replace(self_key=tuple(keys), self_value=tuple(values), position=state.position + 1)
        return (logits.squeeze(1) if visible is None else logits), following

    def select(self, state: TransformerState, rows: Tensor) -> TransformerState:
        """See Seq2SeqModel."""

        def chosen(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return tuple(tensor.index_select(0, rows) for tensor in tensors)

        return TransformerState(
            chosen(state.cross_key),
            chosen(state.cross_value),
            chosen(state.self_key),
            chosen(state.self_value),
            state.mask.index_select(0, rows),
            state.position,
        )


ARCHITECTURES: dict[str, type[Seq2SeqModel]] = {"transformer": Transformer}


def build_model(config: ModelConfig) -> Seq2SeqModel:
    """The module of a configuration, with fresh weights."""
    return ARCHITECTURES[config.architecture](config)
