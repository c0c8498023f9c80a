"""The recurrent student of Lin et al. 2020: simple recurrent units (SRU, Lei et al. 2018), one attention at the top.

The encoder's layers read the source in both directions. The decoder's layers read the prefix and start from the
encoder's last cells, those of both directions side by side; after the top one comes scaled dot-product attention to the
memory, and what was read and the layer's output give the features.

Shapes: batch, source_len, context_len, len (either), d, hidden = hidden_size, beams (1 without an axis for them).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.errors import ConfigError
from compressor.model_config import SruModelConfig
from compressor.models.base import Memory, Seq2SeqModel
from compressor.models.dropout import dropout
from compressor.models.embedded import EmbeddedModel
from compressor.models.layers import attend, gather_beams, select_rows
from compressor.models.linear import Linear
from compressor.models.scans import before, gated_scan

HIGHWAY_SCALE = 3.0**0.5
"""Keeps the variance of a layer's input in its output at the start (Lei et al. 2018, section 3.2, bias 0)."""


class SruLayer(nn.Module):
    """A layer of SRUs, one in each direction (Lei et al. 2018, eq. 1 to 4).

    ``c_t = f_t * c_(t-1) + (1 - f_t) * W x_t`` and ``h_t = r_t * c_t + (1 - r_t) * s_t`` with the gates
    ``f_t = sigmoid(W_f x_t + v_f * c_(t-1) + b_f)`` and ``r_t``, which is like it. ``s_t`` is the scaled input if it
    has the width of the output, else another projection of it. All matrices are one, ``W``, or its factors where the
    configuration has a ``projection``. The recurrence is computed in fp32.
    """

    def __init__(self, config: SruModelConfig, inputs: int, directions: int) -> None:
        """Makes a layer over inputs of that width; ``hidden_size`` is divided among the directions."""
        super().__init__()
        hidden, self.directions = config.hidden_size, directions
        self.parts = 3 if inputs == hidden else 4
        self.norm = nn.LayerNorm(inputs) if config.layer_norm else nn.Identity()
        inner = config.projection
        self.contract = Linear(inputs, inner, bias=False) if inner else nn.Identity()
        self.weight = Linear(inner or inputs, self.parts * hidden, bias=False)
        self.forget_cell, self.forget_bias = nn.Parameter(torch.zeros(hidden)), nn.Parameter(torch.zeros(hidden))
        self.reset_cell, self.reset_bias = nn.Parameter(torch.zeros(hidden)), nn.Parameter(torch.zeros(hidden))

    @torch.no_grad()
    def initialise(self) -> None:
        """Draws the matrices so that outputs have the variance of inputs (Lei et al. 2018, section 3.2)."""
        for matrix in (self.contract, self.weight):
            if isinstance(matrix, nn.Linear):
                bound = (3 / matrix.in_features) ** 0.5
                nn.init.uniform_(matrix.weight, -bound, bound)

    def forward(
        self, inputs: Tensor, mask: Tensor | None = None, initial: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Outputs [batch, len, hidden] at all positions, and the last cells [batch, hidden], fp32.

        Args:
            inputs: [batch, len, width].
            mask: bool [batch, len], True where there is a token; None: everywhere. Padding leaves a cell as it is.
            initial: [batch, hidden] fp32, the cells before the first position; None: zero.
        """
        projected = self._project(inputs)
        if mask is not None:
            projected = torch.where(mask[:, :, None], projected, self._padding(projected))
        if self.directions == 2:
            projected, inputs = self._reverse_half(projected), self._reverse_half(inputs) if self.parts == 3 else inputs
        candidate, forget, reset, skip = self._split(projected, inputs)
        initial = torch.zeros_like(candidate[:, 0]) if initial is None else initial
        cells = gated_scan(candidate, forget, self.forget_cell.float(), initial)
        outputs = self._highway(cells, before(cells, initial), reset, skip).to(inputs.dtype)
        return (self._reverse_half(outputs) if self.directions == 2 else outputs), cells[:, -1]

    def _padding(self, projected: Tensor) -> Tensor:
        """What stands for a projection [parts * hidden] at padding: the forget gate is 1."""
        gate = projected.new_full((self.forget_bias.shape[0],), torch.inf)
        return F.pad(gate, (gate.shape[0], projected.shape[-1] - 2 * gate.shape[0]))

    def step(self, inputs: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Output and next cell of one direction, both [batch, beams, hidden]; ``cell`` is fp32."""
        candidate, gate, reset, skip = self._split(self._project(inputs), inputs)
        forget = torch.sigmoid(gate + self.forget_cell.float() * cell)
        following = candidate + forget * (cell - candidate)
        return self._highway(following, cell, reset, skip).to(inputs.dtype), following

    def _project(self, inputs: Tensor) -> Tensor:
        """The matmuls of all positions, fp32 [batch, len, parts * hidden]."""
        projected: Tensor = self.weight(self.contract(self.norm(inputs)))
        return projected.float()

    def _split(self, projected: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Candidate, both gates before what they read of the cell, and skip, each fp32 [batch, len, hidden]."""
        candidate, forget, reset, *more = projected.chunk(self.parts, dim=-1)
        skip = more[0] if more else inputs.float() * HIGHWAY_SCALE
        return candidate, forget + self.forget_bias.float(), reset + self.reset_bias.float(), skip

    def _highway(self, cell: Tensor, previous: Tensor, reset: Tensor, skip: Tensor) -> Tensor:
        """The output ``r * c + (1 - r) * s``; ``previous`` is the cell before, which the gate reads."""
        gate = torch.sigmoid(reset + self.reset_cell.float() * previous)
        return skip + gate * (cell - skip)

    def _reverse_half(self, values: Tensor) -> Tensor:
        """Reverses the second half of each part along time: [batch, len, any number of parts * hidden]."""
        half = self.reset_bias.shape[0] // 2
        batch, length, width = values.shape
        ahead, back = values.view(batch, length, width // (2 * half), 2, half).unbind(-2)
        return torch.stack([ahead, back.flip(1)], dim=-2).flatten(-3)


class SruState(NamedTuple):
    """What ``step`` carries."""

    memory: Tensor
    """[batch, source_len, hidden]"""
    cell: tuple[Tensor, ...]
    """[batch, beams, hidden] of each decoder layer, fp32"""
    mask: Tensor
    """[batch, 1, 1, source_len] bool"""


class Sru(EmbeddedModel):
    """A bidirectional encoder and a decoder of SRU layers with attention after the top one."""

    config: SruModelConfig

    def __init__(self, config: SruModelConfig) -> None:
        super().__init__(config)
        d, hidden = config.d_model, config.hidden_size
        self.encoder = self._layers(config.encoder_layers, directions=2)
        self.decoder = self._layers(config.decoder_layers, directions=1)
        self.combine = Linear(2 * hidden, hidden)
        self.contract = Linear(hidden, d)
        self._initialise()

    def _layers(self, count: int, *, directions: int) -> nn.ModuleList:
        """The layers of one side, the first of which reads embeddings."""
        widths = [self.config.d_model] + [self.config.hidden_size] * (count - 1)
        return nn.ModuleList(SruLayer(self.config, width, directions) for width in widths)

    def _initialise(self) -> None:
        """Draws fresh weights."""
        super()._initialise()
        for layer in (*self.encoder, *self.decoder):
            layer.initialise()

    def _drop(self, values: Tensor) -> Tensor:
        """Dropout, at the input of each layer."""
        return dropout(values, self.config.dropout, self.training)

    def encode(self, source: Tensor, source_mask: Tensor) -> Memory:
        """See Seq2SeqModel; the memory has the width ``hidden_size``."""
        hidden, cells = self._look_up(source, "source"), []
        for layer in self.encoder:
            hidden, last = layer(self._drop(hidden), source_mask)
            cells.append(last)
        return Memory(hidden, source_mask, tuple(cells))

    def features(self, memory: Memory, context: Tensor) -> Tensor:
        """See Seq2SeqModel."""
        hidden = self._look_up(context, "target")
        for layer, initial in zip(self.decoder, self._initial_cells(memory), strict=True):
            hidden, _ = layer(self._drop(hidden), initial=initial)
        return self._read(hidden, memory.hidden, memory.mask[:, None, None, :])

    def _initial_cells(self, memory: Memory) -> list[Tensor]:
        """The cells [batch, hidden] that each decoder layer starts from.

        Layers of both sides are paired from the top; zero where the encoder has none left.
        """
        zero = torch.zeros_like(memory.cells[-1])
        return [*([zero] * len(self.decoder)), *memory.cells][-len(self.decoder) :]

    def _read(self, hidden: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """Attention of decoder outputs [batch, len, hidden] to the memory, then the features [batch, len, d]."""
        attended = attend(hidden, memory, memory, mask, 1, self.fused_attention)
        combined = torch.tanh(self.combine(torch.cat([hidden, attended], dim=-1)))
        features: Tensor = self.contract(self._drop(combined))
        return features

    def initial_state(self, memory: Memory, num_beams: int | None = None) -> SruState:
        """See Seq2SeqModel; the cells are the encoder's last."""
        cells = (cell[:, None].repeat(1, num_beams or 1, 1) for cell in self._initial_cells(memory))
        return SruState(memory.hidden, tuple(cells), memory.mask[:, None, None, :])

    def step(self, token: Tensor, state: SruState, kept_columns: Tensor | None = None) -> tuple[Tensor, SruState]:
        """See Seq2SeqModel; beams are queries of one attention, so that the memory is not repeated."""
        alone = token.dim() == 1
        hidden = self._look_up(token[:, None] if alone else token, "target")
        cells = []
        for layer, cell in zip(self.decoder, state.cell, strict=True):
            hidden, following = layer.step(hidden, cell)  # type: ignore[operator]
            cells.append(following)
        logits = self.project(self._read(hidden, state.memory, state.mask), kept_columns)
        return (logits.squeeze(1) if alone else logits), state._replace(cell=tuple(cells))

    def reorder(self, state: SruState, parents: Tensor) -> SruState:
        """See Seq2SeqModel; the cells move."""
        return state._replace(cell=tuple(gather_beams(cell, parents) for cell in state.cell))

    def select(self, state: SruState, rows: Tensor) -> SruState:
        """See Seq2SeqModel."""
        memory, mask = select_rows((state.memory, state.mask), rows)
        return SruState(memory, select_rows(state.cell, rows), mask)

    def load_layers(self, teacher: Seq2SeqModel) -> None:
        """See Seq2SeqModel; no other architecture has these layers."""
        raise ConfigError(
            "training.initialization: teacher_layers is for students with a Transformer encoder, not for sru; "
            "give teacher_embeddings"
        )
