"""From outputs (references, the teacher's or the student's own) to contexts, labels and kept positions.

Shapes: batch, context_len.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compressor.generation_config import GenerationConfig


class Contexts(NamedTuple):
    """A batch of prefixes to learn from."""

    tokens: Tensor
    """[batch, context_len] int64: start token, then the output without its EOS, then padding."""
    labels: Tensor
    """[batch, context_len] int64: the output's own next token; padding where there is none."""
    kept: Tensor
    """[batch, context_len] bool: positions that carry loss."""
    labelled: Tensor
    """[batch] bool: rows whose labels are targets; the others are the student's own outputs."""


def build_contexts(
    outputs: Sequence[Sequence[int] | NDArray[np.int32]], labelled: Sequence[bool], generation: GenerationConfig
) -> Contexts:
    """Contexts of a batch of outputs.

    Position 0 (the start token, whatever its id) always carries loss. After it, a position is kept if its input is a
    real token before the first EOS: so the label at the last kept position may be EOS, and an output that was cut at
    its length limit is kept to its end. Lengths decide, not ids (PAPER: masks).
    """
    eos, pad = generation.eos_id, generation.pad_id
    inputs = [_before_eos(output, eos) for output in outputs]
    width = 1 + max(map(len, inputs))
    tokens = np.full((len(inputs), width), pad, dtype=np.int64)
    labels = np.full((len(inputs), width), pad, dtype=np.int64)
    for row, (before, output) in enumerate(zip(inputs, outputs, strict=True)):
        tokens[row, 0] = generation.start_id
        tokens[row, 1 : 1 + len(before)] = before
        ended = len(output) > len(before)
        labels[row, : len(before) + ended] = output[: len(before) + ended]
    lengths = np.array([1 + len(before) for before in inputs])
    kept = np.arange(width) < lengths[:, None]
    arrays = torch.from_numpy(tokens), torch.from_numpy(labels), torch.from_numpy(kept)
    return Contexts(*arrays, torch.tensor(list(labelled), dtype=torch.bool))


def _before_eos(output: Sequence[int] | NDArray[np.int32], eos_id: int) -> Sequence[int] | NDArray[np.int32]:
    ends = np.flatnonzero(np.asarray(output) == eos_id)
    return output[: ends[0]] if len(ends) else output


def draw_coins(beta: float, rows: int, seed: Sequence[int]) -> list[bool]:
    """One coin an example: True keeps the data set's target (with probability β)."""
    heads: list[bool] = (np.random.default_rng(seed).random(rows) < beta).tolist()
    return heads
