"""A Transformer with separate encoder and decoder depth (Vaswani et al. 2017), laid out as Marian by default.

Shapes: batch, source_len, context_len, d, heads, head_dim, vocab, beams, entries = steps so far * beams.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from compressor.models.base import Memory
from compressor.models.encoder_decoder import EncoderDecoder
from compressor.models.layers import DecoderLayer, gather_beams, select_rows


class TransformerState(NamedTuple):
    """What ``step`` carries; tuples have a tensor for each decoder layer.

    The beams of a sentence share one cache, to which every step adds an entry a beam, and ``visible`` says which
    entries are a beam's own history. So reordering beams moves a few booleans, not keys and values.
    """

    cross_key: tuple[Tensor, ...]
    """See ``CrossAttention.cache``"""
    cross_value: tuple[Tensor, ...]
    """See ``CrossAttention.cache``"""
    self_key: tuple[Tensor, ...]
    """[batch, heads, entries, head_dim]: one entry a step and beam"""
    self_value: tuple[Tensor, ...]
    """[batch, heads, entries, head_dim]: one entry a step and beam"""
    mask: Tensor
    """[batch, 1, 1, source_len] bool"""
    position: Tensor
    """int64 [1]: steps so far"""
    visible: Tensor | None
    """bool [batch, beams, entries]; None without an axis for beams"""


class Transformer(EncoderDecoder):
    """Encoder and decoder of attention and feed-forward layers."""

    DecoderLayer = DecoderLayer

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

    def initial_state(self, memory: Memory, num_beams: int | None = None) -> TransformerState:
        """See Seq2SeqModel; the self-attention cache is empty."""
        cross = [layer.cross_attention.cache(memory.hidden, self.fused_attention) for layer in self.decoder]
        keys, values = zip(*cross, strict=True)
        (batch, _, d), heads = memory.hidden.shape, self.config.num_heads
        empty = tuple(memory.hidden.new_zeros(batch, heads, 0, d // heads) for _ in cross)
        position = torch.zeros(1, dtype=torch.int64, device=memory.hidden.device)
        visible = None if num_beams is None else memory.mask.new_zeros(batch, num_beams, 0)
        return TransformerState(keys, values, empty, empty, memory.mask[:, None, None, :], position, visible)

    def step(
        self, token: Tensor, state: TransformerState, kept_columns: Tensor | None = None
    ) -> tuple[Tensor, TransformerState]:
        """See Seq2SeqModel; beams are queries of one attention, so that neither memory nor cache is repeated."""
        visible = state.visible
        if visible is not None:
            own = torch.eye(token.shape[1], dtype=torch.bool, device=token.device)
            visible = torch.cat([visible, own.expand(token.shape[0], -1, -1)], dim=2)
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
        logits = self.project(self.decoder_norm(hidden), kept_columns)
        following = state._replace(
            self_key=tuple(keys), self_value=tuple(values), position=state.position + 1, visible=visible
        )
        return (logits.squeeze(1) if visible is None else logits), following

    def reorder(self, state: TransformerState, parents: Tensor) -> TransformerState:
        """See Seq2SeqModel; only ``visible`` moves."""
        assert state.visible is not None
        return state._replace(visible=gather_beams(state.visible, parents))

    def select(self, state: TransformerState, rows: Tensor) -> TransformerState:
        """See Seq2SeqModel."""
        return TransformerState(
            select_rows(state.cross_key, rows),
            select_rows(state.cross_value, rows),
            select_rows(state.self_key, rows),
            select_rows(state.self_value, rows),
            state.mask.index_select(0, rows),
            state.position,
            None if state.visible is None else state.visible.index_select(0, rows),
        )
