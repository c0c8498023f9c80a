"""A decoder of SSRU cells under a Transformer encoder (Kim et al. 2019, "From Research to Production and Back", 3.2).

The cell stands in the place of decoder self-attention: ``c_t = f_t * c_(t-1) + (1 - f_t) * W x_t`` with the forget gate
``f_t = sigmoid(W_f x_t + b_f)``, and its output is ``relu(c_t)``. The state has one size at every step. It is linear in
``c``, so that training computes all positions at once.

Shapes: batch, source_len, context_len, d, vocab, beams (1 where there is no axis for them).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.model_config import LayeredModelConfig
from compressor.models.base import Memory
from compressor.models.encoder_decoder import EncoderDecoder
from compressor.models.layers import CrossAttention, FeedForward, Residual, attend, gather_beams, select_rows
from compressor.models.linear import Linear
from compressor.models.scans import LinearScan


class SsruCell(nn.Module):
    """Forget gate and candidate in one matmul, then the recurrence."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.gate_and_candidate = Linear(d, 2 * d, bias=False)
        self.gate_bias = nn.Parameter(torch.zeros(d))

    def _forget_and_update(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the forget gate f_t and (1 - f_t) * candidate_t, fp32, both [batch, context_len, d]."""
        gate, candidate = self.gate_and_candidate(inputs).float().chunk(2, dim=-1)
        forget = torch.sigmoid(gate + self.gate_bias.float())
        return forget, (1 - forget) * candidate

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs [batch, context_len, d] at all positions; the recurrence is computed in fp32."""
        cells: Tensor = LinearScan.apply(*self._forget_and_update(inputs))  # type: ignore[no-untyped-call]
        return F.relu(cells).to(inputs.dtype)

    def step(self, inputs: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Output and next cell, both [batch, beams, d]; ``cell`` is fp32."""
        forget, update = self._forget_and_update(inputs)
        cell = forget * cell + update
        return F.relu(cell).to(inputs.dtype), cell


class SsruLayer(nn.Module):
    """An SSRU cell, attention to the memory, feed-forward; its parts have the names of ``DecoderLayer``'s."""

    def __init__(self, config: LayeredModelConfig) -> None:
        super().__init__()
        self.self_frame = Residual(config)
        self.cell = SsruCell(config.d_model)
        self.cross_frame = Residual(config)
        self.cross_attention = CrossAttention(config.d_model, config.num_heads)
        self.feed_forward = FeedForward(config, config.decoder_ffn)

    def forward(self, hidden: Tensor, cross: tuple[Tensor, Tensor], cross_mask: Tensor, fused: bool) -> Tensor:
        """One layer over whole prefixes [batch, context_len, d]; arguments as those of ``DecoderLayer``."""
        change = self.cell(self.self_frame.enter(hidden))
        return self._attend_and_transform(self.self_frame.leave(hidden, change), cross, cross_mask, fused)

    def step(
        self, hidden: Tensor, cell: Tensor, cross: tuple[Tensor, Tensor], cross_mask: Tensor, fused: bool
    ) -> tuple[Tensor, Tensor]:
        """One layer over new tokens [batch, beams, d], and the next cell."""
        change, cell = self.cell.step(self.self_frame.enter(hidden), cell)
        hidden = self.self_frame.leave(hidden, change)
        return self._attend_and_transform(hidden, cross, cross_mask, fused), cell

    def _attend_and_transform(
        self, hidden: Tensor, cross: tuple[Tensor, Tensor], cross_mask: Tensor, fused: bool
    ) -> Tensor:
        """Attention to the memory, then feed-forward."""
        query = self.cross_attention.query(self.cross_frame.enter(hidden))
        change = self.cross_attention.out(attend(query, *cross, cross_mask, self.cross_attention.heads, fused))
        output: Tensor = self.feed_forward(self.cross_frame.leave(hidden, change))
        return output


class SsruState(NamedTuple):
    """What ``step`` carries; tuples have a tensor for each decoder layer."""

    cross_key: tuple[Tensor, ...]
    """See ``CrossAttention.cache``"""
    cross_value: tuple[Tensor, ...]
    """See ``CrossAttention.cache``"""
    cell: tuple[Tensor, ...]
    """[batch, beams, d], fp32"""
    mask: Tensor
    """[batch, 1, 1, source_len] bool"""
    position: Tensor
    """int64 [1]: steps so far"""


class Ssru(EncoderDecoder):
    """A Transformer encoder and a decoder of SSRU layers."""

    DecoderLayer = SsruLayer

    def features(self, memory: Memory, context: Tensor) -> Tensor:
        """See Seq2SeqModel."""
        hidden = self._embed(context, self._positions("target")[: context.shape[1]], "target")
        cross_mask = memory.mask[:, None, None, :]
        for layer in self.decoder:
            cross = layer.cross_attention.memory(memory.hidden)
            hidden = layer(hidden, cross, cross_mask, self.fused_attention)
        normed: Tensor = self.decoder_norm(hidden)
        return normed

    def initial_state(self, memory: Memory, num_beams: int | None = None) -> SsruState:
        """See Seq2SeqModel; all cells are zero."""
        cross = [layer.cross_attention.cache(memory.hidden, self.fused_attention) for layer in self.decoder]
        keys, values = zip(*cross, strict=True)
        batch, _, d = memory.hidden.shape
        device = memory.hidden.device
        cells = tuple(torch.zeros(batch, num_beams or 1, d, device=device) for _ in cross)
        position = torch.zeros(1, dtype=torch.int64, device=device)
        return SsruState(keys, values, cells, memory.mask[:, None, None, :], position)

    def step(self, token: Tensor, state: SsruState, kept_columns: Tensor | None = None) -> tuple[Tensor, SsruState]:
        """See Seq2SeqModel; beams are queries of one attention, so that the memory is not repeated."""
        alone = token.dim() == 1
        tokens = token[:, None] if alone else token
        hidden = self._embed(tokens, F.embedding(state.position, self._positions("target")), "target")
        cells = []
        for index, layer in enumerate(self.decoder):
            cross = state.cross_key[index], state.cross_value[index]
            hidden, cell = layer.step(hidden, state.cell[index], cross, state.mask, self.fused_attention)
            cells.append(cell)
        logits = self.project(self.decoder_norm(hidden), kept_columns)
        following = state._replace(cell=tuple(cells), position=state.position + 1)
        return (logits.squeeze(1) if alone else logits), following

    def reorder(self, state: SsruState, parents: Tensor) -> SsruState:
        """See Seq2SeqModel; the cells move."""
        return state._replace(cell=tuple(gather_beams(cell, parents) for cell in state.cell))

    def select(self, state: SsruState, rows: Tensor) -> SsruState:
        """See Seq2SeqModel."""
        return SsruState(
            select_rows(state.cross_key, rows),
            select_rows(state.cross_value, rows),
            select_rows(state.cell, rows),
            state.mask.index_select(0, rows),
            state.position,
        )
