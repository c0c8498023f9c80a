"""The two modules that are traced: the encoder with the decoder's first state, and one decoder step with its search.

A model's ``State`` is flattened to named tensors (``cross_key_0``, ``self_key_0``, ``mask``, ...). Names tell what is
fed where: the encoder's output ``x`` is the step's input ``x``, and the step's output ``next_x`` is its next input
``x``. What a step hands back untouched (cross-attention keys and values, the mask) is *constant*: an input only. All
this is found by running the model, so that any architecture behind the interface exports the same way.

Shapes: batch, source_len, past_len = tokens decoded so far, rows = those of the output layer: one a token, but for
suppressed ones.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.exporters.search import GreedySearch
from compressor.generation import GenerationConfig
from compressor.models.base import Seq2SeqModel

SOURCE_MULTIPLE = 4
"""Sources are padded to a multiple of this. ONNX Runtime's product of one row (cross-attention of one step) adds four
terms at a time and what is left over in another order: a source of 7 tokens alone would differ in its last bits from
the same source padded to 8 in a batch, which int8 rounding makes visible. Measured: with this the bits are equal."""

WORTH_DROPPING = 0.1
"""Share of the vocabulary from which suppressed tokens lose their rows of the output layer."""

STEP_INPUTS = ("token", "step", "max_new_tokens", "finished")
STEP_OUTPUTS = ("next_token", "next_finished", "unfinished", "logits")


class Probe(NamedTuple):
    """A state met while running the model on sizes that differ in every dynamic dimension."""

    sizes: dict[str, int]
    state: Any
    constant: list[bool]


class StateLayout:
    """Names of a state's tensors, which of them are constant, and the name of every dynamic dimension."""

    def __init__(self, model: Seq2SeqModel) -> None:
        small, large = _probe(model, 2, 5, 3), _probe(model, 3, 7, 4)
        self.example = small
        self.names = [name for name, _ in named_tensors(small.state)]
        self.constant = small.constant
        self.dynamic = [
            _dynamic_dims(first, second, small.sizes, large.sizes)
            for (_, first), (_, second) in zip(named_tensors(small.state), named_tensors(large.state), strict=True)
        ]

    @property
    def carried(self) -> list[str]:
        """Names of the tensors that change from step to step."""
        return [name for name, constant in zip(self.names, self.constant, strict=True) if not constant]

    def rebuild(self, tensors: list[Tensor]) -> Any:
        """The state that has these tensors, in the order of ``names``."""
        remaining = iter(tensors)
        fields = [
            tuple(next(remaining) for _ in field) if isinstance(field, tuple) else next(remaining)
            for field in self.example.state
        ]
        return type(self.example.state)(*fields)


def named_tensors(state: Any) -> Iterator[tuple[str, Tensor]]:
    """Flattens a state: (``cross_key_0``, tensor), ..."""
    for name, value in zip(state._fields, state, strict=True):
        if isinstance(value, tuple):
            yield from ((f"{name}_{index}", tensor) for index, tensor in enumerate(value))
        else:
            yield name, value


@torch.no_grad()
def _probe(model: Seq2SeqModel, batch: int, source_len: int, steps: int) -> Probe:
    source = torch.zeros(batch, source_len, dtype=torch.int64)
    state = model.initial_state(model.encode(source, torch.ones(batch, source_len, dtype=torch.bool)))
    for _ in range(steps):
        before = state
        _, state = model.step(torch.zeros(batch, dtype=torch.int64), state)
    pairs = zip(named_tensors(before), named_tensors(state), strict=True)
    sizes = {"batch": batch, "source_len": source_len, "past_len": steps}
    return Probe(sizes, state, [old is new for (_, old), (_, new) in pairs])


def _dynamic_dims(first: Tensor, second: Tensor, small: dict[str, int], large: dict[str, int]) -> dict[int, str]:
    """{axis: name} of the axes that grew as one of the probe's sizes did."""
    names = {(small[name], large[name]): name for name in small}
    pairs = enumerate(zip(first.shape, second.shape, strict=True))
    return {axis: names[pair] for axis, pair in pairs if pair[0] != pair[1]}


class EncoderGraph(nn.Module):
    """Source ids to the decoder's first state; keys and values of cross-attention are computed here, once."""

    def __init__(self, model: Seq2SeqModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Both int64 [batch, source_len]; returns the state's tensors, padded to a multiple of ``SOURCE_MULTIPLE``."""
        width = (input_ids.shape[1] + SOURCE_MULTIPLE - 1) // SOURCE_MULTIPLE * SOURCE_MULTIPLE
        input_ids = F.pad(input_ids, (0, SOURCE_MULTIPLE - 1), value=self.model.config.pad_id)[:, :width]
        attention_mask = F.pad(attention_mask, (0, SOURCE_MULTIPLE - 1))[:, :width]
        state = self.model.initial_state(self.model.encode(input_ids, attention_mask != 0))
        return tuple(tensor for _, tensor in named_tensors(state))


@torch.no_grad()
def without_suppressed(model: Seq2SeqModel, generation: GenerationConfig) -> tuple[Seq2SeqModel, Tensor | None]:
    """A copy that never writes what is suppressed, at no cost a step.

    Many suppressed tokens lose their rows of the output layer; the tokens of the rows that are left come with the copy.
    Few are taken out by the output bias: the output layer still shares its bytes with a tied embedding then.
    """
    model, vocab_size = copy.deepcopy(model), model.config.vocab_size
    if len(generation.suppressed_ids) < WORTH_DROPPING * vocab_size:
        model.output_bias[list(generation.suppressed_ids)] = -torch.inf
        return model, None
    tokens = torch.tensor(generation.allowed_ids(vocab_size))
    model.restrict_output(tokens)
    return model, tokens


class DecoderStepGraph(nn.Module):
    """One token further: the model's step, then the search's."""

    def __init__(self, model: Seq2SeqModel, generation: GenerationConfig, layout: StateLayout) -> None:
        super().__init__()
        self.model, tokens = without_suppressed(model, generation)
        self.layout = layout
        rules = generation.model_copy(update={"suppressed_ids": ()})
        self.search = GreedySearch(rules, model.config.vocab_size, tokens)

    def forward(
        self, token: Tensor, step: Tensor, max_new_tokens: Tensor, finished: Tensor, *state: Tensor
    ) -> tuple[Tensor, ...]:
        """Inputs in the order of ``STEP_INPUTS`` and ``StateLayout.names``.

        Returns:
            ``STEP_OUTPUTS``, then the carried tensors of the next state.
        """
        logits, following = self.model.step(token, self.layout.rebuild(list(state)))
        token, finished, unfinished = self.search(logits, step, max_new_tokens, finished)
        tensors = [tensor for _, tensor in named_tensors(following)]
        carried = [tensor for tensor, constant in zip(tensors, self.layout.constant, strict=True) if not constant]
        return token, finished, unfinished, logits, *carried
