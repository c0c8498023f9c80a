"""Context policies, and the tensors built from the outputs that a policy chooses.

Shapes: batch = examples, context_len = tokens of the longest context.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compressor.data.batching import Batch
from compressor.data.random_draws import Stream, uniform
from compressor.generation_config import GenerationConfig
from compressor.method_table import Origin

TokenIds = Sequence[int] | NDArray[np.int32]

WORTH_CUTTING = 1000
"""A batch is cut where that saves this many padded positions: a piece costs as much, in gradients of embeddings."""


class ContextPolicy(ABC):
    """Says where the contexts of each example come from."""

    @abstractmethod
    def choose(self, indices: Sequence[int], beta: float, seed: int, visit: int) -> list[Origin]:
        """Returns the origin of each example.

        Args:
            indices: examples' positions in the corpus.
            beta: probability of the data-set side, where the policy is a mixture.
            seed: of the run.
            visit: how often these examples were trained on before.
        """


@dataclass(frozen=True)
class Always(ContextPolicy):
    """All contexts come from one origin."""

    origin: Origin

    def choose(self, indices: Sequence[int], beta: float, seed: int, visit: int) -> list[Origin]:
        """See ContextPolicy."""
        return [self.origin] * len(indices)


@dataclass(frozen=True)
class Mixture(ContextPolicy):
    """Each example draws a coin: ``first`` with probability β, else ``second``."""

    first: Origin
    second: Origin

    def choose(self, indices: Sequence[int], beta: float, seed: int, visit: int) -> list[Origin]:
        """See ContextPolicy."""
        return [self.first if heads else self.second for heads in draw_coins(beta, indices, seed, visit)]


def draw_coins(beta: float, indices: Sequence[int], seed: int, visit: int) -> list[bool]:
    """Returns one coin per example, True with probability ``beta``; keyed by seed, visit and example."""
    heads: list[bool] = (uniform(Stream.COIN, seed, visit, indices)[:, 0] < beta).tolist()
    return heads


class Contexts(NamedTuple):
    """A batch of prefixes to learn from."""

    tokens: Tensor
    """[batch, context_len] int64: start token, then the output without its EOS, then padding."""
    labels: Tensor
    """[batch, context_len] int64: the output's own next token; padding where there is none."""
    loss_mask: Tensor
    """[batch, context_len] bool: positions that carry loss."""
    from_data: Tensor
    """[batch] bool: rows written by a reference or the teacher, whose labels are hard targets; else by the student."""

    def to(self, device: torch.device) -> Contexts:
        """Returns the contexts with their tensors on ``device``."""
        return Contexts(*(tensor.to(device) for tensor in self))


def build_contexts(outputs: Sequence[TokenIds], from_data: Sequence[bool], generation: GenerationConfig) -> Contexts:
    """Returns the contexts of a batch of outputs.

    Position 0 (the start token, whatever its id) always carries loss. After it, a position carries loss if its input
    is a real token before the first EOS. The label at the last such position may be EOS; an output that was cut at its
    length limit has no label there. Lengths decide, not ids (Lin et al. 2020: masks).

    Args:
        outputs: token ids of each example, with or without EOS.
        from_data: whether an example's labels are hard targets.
        generation: start, end and padding tokens.
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
    loss_mask = np.arange(width) < lengths[:, None]
    arrays = torch.from_numpy(tokens), torch.from_numpy(labels), torch.from_numpy(loss_mask)
    return Contexts(*arrays, torch.tensor(list(from_data), dtype=torch.bool))


def _before_eos(output: TokenIds, eos_id: int) -> TokenIds:
    ends = np.flatnonzero(np.asarray(output) == eos_id)
    return output[: ends[0]] if len(ends) else output


def cut_by_length(batch: Batch, contexts: Contexts) -> Iterator[tuple[Batch, Contexts]]:
    """Yields a batch in pieces whose contexts have similar lengths, so that one long rollout pads few other rows."""
    lengths = contexts.loss_mask.sum(dim=1)
    order = lengths.argsort(stable=True)
    for rows in _pieces(order.tolist(), lengths[order].tolist()):
        index, width = torch.tensor(rows), int(lengths[rows].max())
        target = None if batch.target is None else batch.target[index]
        indices = [batch.indices[row] for row in rows]
        part = Batch(batch.source[index], batch.source_mask[index], target, indices, batch.visit)
        tokens, labels, loss_mask = (tensor[index, :width] for tensor in contexts[:-1])
        yield part, Contexts(tokens, labels, loss_mask, contexts.from_data[index])


def _pieces(rows: list[int], lengths: list[int]) -> list[list[int]]:
    """Cuts rows of ascending length where that saves ``WORTH_CUTTING`` padded positions; again in each half."""
    count = len(rows)
    whole = count * lengths[-1]
    costs = [(at * lengths[at - 1] + (count - at) * lengths[-1], at) for at in range(1, count)]
    best, at = min(costs, default=(whole, 0))
    if whole - best < WORTH_CUTTING:
        return [rows]
    return _pieces(rows[:at], lengths[:at]) + _pieces(rows[at:], lengths[at:])
