"""The two modules that are traced, for each search: the encoder with the first states, and one step.

A model's state and a search's are flattened to named tensors (``cross_key_0``, ``self_key_0``, ``sequences``, ...).
Names tell what is fed where: the encoder's output ``x`` is the step's input ``x``, and the step's output ``next_x`` is
its next input ``x``. What a step hands back untouched (cross-attention keys and values, the mask) is *constant*: an
input only. All this is learned by running the model, so any architecture behind the interface exports the same way.

Shapes: batch, source_len, past_len = entries of the cache, length = tokens so far with the start token, beams.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.decoding.beam import (
    MAX_BEAMS,
    STOP_HEURISTIC,
    BeamOptions,
    BeamSearch,
)
from compressor.decoding.constraints import search_options
from compressor.decoding.greedy import GreedySearch
from compressor.decoding.search import WORTH_SHRINKING
from compressor.decoding.shortlist import Shortlist, Shortlisted
from compressor.decoding.topk import GROUP
from compressor.generation_config import GenerationConfig
from compressor.models.base import Seq2SeqModel
from compressor.models.weights import Run

Search = GreedySearch | BeamSearch

SOURCE_MULTIPLE = 4
"""The memory is padded to a multiple of this. ONNX Runtime's matmul of one row (cross-attention of one step) adds four
terms at a time and what is left over in another order: a source of 7 tokens alone would differ in its last bits from
the same source padded to 8 in a batch, which int8 rounding makes visible. Measured: with this the bits are equal; the
encoder's own attention, which has several rows, gives equal bits at any length."""

WORTH_DROPPING = 0.1
"""Share of the vocabulary from which suppressed tokens lose their rows of the output layer."""


def max_beams(tokens: int) -> int:
    """Returns the largest number of beams of a search over so many tokens: a step takes two candidates a beam."""
    return max(1, min(MAX_BEAMS, tokens // 2))


def max_source_tokens(run: Run) -> int:
    """Returns the number of tokens of the longest source that the graphs take."""
    longest = run.model.config.max_length // SOURCE_MULTIPLE * SOURCE_MULTIPLE  # sources are padded to a multiple
    return min(run.generation.max_source_tokens, longest)


class Slot(NamedTuple):
    """A tensor of a state."""

    name: str
    example: Tensor
    axes: dict[int, str]
    """Dynamic axes, by name."""
    constant: bool
    """Whether a step hands it back untouched."""

    @property
    def is_row(self) -> bool:
        """Whether the tensor has one row for each sentence."""
        return self.axes.get(0) == "batch"


class Layout:
    """The tensors of a model's state and of a search's, learned by running both on sizes that differ in every axis."""

    def __init__(self, model: Seq2SeqModel, search: Search, shortlist: Shortlist | None = None) -> None:
        self.search, self.shortlist = search, shortlist
        self.has_beams = isinstance(search, BeamSearch)
        spare = search.spare if isinstance(search, BeamSearch) else 0
        self.columns = search.constraints.eos.shape[0]
        always = self.columns - spare if shortlist is None else int(shortlist.always.sum())
        self.max_beams = max_beams(always)
        small, large = _probe(model, search, 2, 5, 3), _probe(model, search, 3, 7, 4)
        sizes = {(small.sizes[name], large.sizes[name]): name for name in small.sizes}
        self.options = _slots(small.options, large.options, sizes, [True] * len(small.options))
        self.search_slots = _slots(small.search_state, large.search_state, sizes)
        self.state = _slots(small.state, large.state, sizes, small.constant)
        if shortlist is not None:  # another constant part of the state
            kept_columns, penalty = torch.arange(always), torch.zeros(2, always)
            self.state += [
                Slot("kept_columns", kept_columns, {0: "kept"}, True),
                Slot("penalty", penalty, {0: "batch", 1: "kept"}, True),
            ]
        by_name = {slot.name: slot for slot in self.search_slots}
        self.results = {name: by_name[source] for name, source in search.RESULTS.items()}
        self._state = small.state

    @property
    def carried(self) -> list[Slot]:
        """The model's tensors that change from step to step."""
        return [slot for slot in self.state if not slot.constant]

    @property
    def constant_rows(self) -> list[Slot]:
        """The tensors with a row for each sentence that no step changes: options, and the memory's keys and values."""
        return [slot for slot in (*self.options, *self.state) if slot.is_row and slot.constant]

    def rebuild(self, tensors: list[Tensor]) -> tuple[Any, Shortlisted | None]:
        """Returns the model's state made of these tensors, in the order of ``state``, and what the shortlist chose."""
        remaining = iter(tensors)
        fields = [
            None
            if field is None
            else tuple(next(remaining) for _ in field)
            if isinstance(field, tuple)
            else next(remaining)
            for field in self._state
        ]
        return type(self._state)(*fields), None if self.shortlist is None else Shortlisted(*remaining)


class Probe(NamedTuple):
    """States after some steps of a model and a search, and the sizes of their axes."""

    sizes: dict[str, int]
    options: Any
    search_state: Any
    state: Any
    constant: list[bool]


def named_tensors(state: Any) -> Iterator[tuple[str, Tensor]]:
    """Yields the tensors of a state with their names: (``cross_key_0``, tensor), ..."""
    for name, value in zip(state._fields, state, strict=True):
        if isinstance(value, tuple):
            yield from ((f"{name}_{index}", tensor) for index, tensor in enumerate(value))
        elif value is not None:
            yield name, value


@torch.no_grad()
def _probe(model: Seq2SeqModel, search: Search, batch: int, source_len: int, steps: int) -> Probe:
    """Runs some steps of a search, and returns the states with the size of each of their axes."""
    source = torch.zeros(batch, source_len, dtype=torch.int64)
    memory = model.encode(source, torch.ones(batch, source_len, dtype=torch.bool))
    prefix_len = steps + 7  # a size of its own
    options: Any = search_options(search.generation, batch, prefix=source.new_zeros(batch, prefix_len))
    search_state: Any
    beams = 1
    if isinstance(search, BeamSearch):
        beams = 2 * steps
        options = BeamOptions._make([*options, torch.ones(batch), torch.tensor(STOP_HEURISTIC)])
        search_state = search.start(source[:, 0], torch.zeros(beams))
        state = model.initial_state(memory, beams)
    else:
        search_state = search.start(source[:, 0])
        state = model.initial_state(memory)
    for step in range(steps):
        before = state
        _, state, search_state = search.advance(model, state, search_state, torch.tensor(step), options)
    pairs = zip(named_tensors(before), named_tensors(state), strict=True)
    constant = [old is new for (_, old), (_, new) in pairs]
    sizes = {"batch": batch, "source_len": source_len, "prefix_len": prefix_len, "length": steps + 1}
    sizes |= {"past_len": steps * beams, "beams": beams} if beams > 1 else {"past_len": steps}
    return Probe(sizes, options, search_state, state, constant)


def _slots(
    first: Any, second: Any, sizes: dict[tuple[int, int], str], constant: list[bool] | None = None
) -> list[Slot]:
    """Returns the tensors of a state; an axis that differs between two probes as one of their sizes has its name."""
    slots: list[Slot] = []
    for (name, one), (_, other) in zip(named_tensors(first), named_tensors(second), strict=True):
        axes = {
            axis: sizes[pair]
            for axis, pair in enumerate(zip(one.shape, other.shape, strict=True))
            if pair[0] != pair[1]
        }
        slots.append(Slot(name, one, axes, bool(constant and constant[len(slots)])))
    return slots


class EncoderGraph(nn.Module):
    """Source ids to the first states of decoder and search, keys and values of cross-attention among them."""

    def __init__(self, model: Seq2SeqModel, layout: Layout) -> None:
        super().__init__()
        self.model, self.search, self.shortlist = model, layout.search, layout.shortlist

    def forward(self, input_ids: Tensor, attention_mask: Tensor, *slots: Tensor) -> tuple[Tensor, ...]:
        """Encodes sources; the memory is padded to a multiple of ``SOURCE_MULTIPLE``.

        Args:
            input_ids, attention_mask: int64 [batch, source_len].
            slots: for beam search, a vector [beams], of which only the size counts.

        Returns:
            The search's state, then the model's, then what the shortlist chose, if there is one.
        """
        width = (input_ids.shape[1] + SOURCE_MULTIPLE - 1) // SOURCE_MULTIPLE * SOURCE_MULTIPLE
        memory = self.model.encode(input_ids, attention_mask != 0)
        hidden = F.pad(memory.hidden, (0, 0, 0, SOURCE_MULTIPLE - 1))[:, :width]
        mask = F.pad(attention_mask, (0, SOURCE_MULTIPLE - 1))[:, :width]
        memory = memory._replace(hidden=hidden, mask=mask != 0)
        state = self.model.initial_state(memory, *(vector.shape[0] for vector in slots))
        shortlisted = () if self.shortlist is None else self.shortlist(input_ids)
        tensors = (tensor for _, tensor in named_tensors(state))
        return *self.search.start(input_ids[:, 0], *slots), *tensors, *shortlisted


def drops_suppressed(generation: GenerationConfig, vocab_size: int) -> bool:
    """Returns whether suppressed tokens lose their columns of the output layer."""
    return len(generation.suppressed_ids) >= WORTH_DROPPING * vocab_size


@torch.no_grad()
def searched(
    model: Seq2SeqModel, generation: GenerationConfig, *, beams: bool, shortlisted: bool = False
) -> tuple[Seq2SeqModel, Search]:
    """Returns a copy of a model, and the search over it, neither of which generates suppressed tokens.

    Many suppressed tokens lose their rows of the output layer, which is filled up to whole groups. Few are taken out by
    the output bias, at no cost a step, but for beam search that does not renormalise: its log-probabilities have them
    in the sum, as those of Hugging Face. A shortlist has no suppressed tokens.
    """
    model, vocab_size = copy.deepcopy(model), model.config.vocab_size
    rules, tokens = generation.model_copy(update={"suppressed_ids": ()}), None
    if drops_suppressed(generation, vocab_size):
        allowed = generation.allowed_ids(vocab_size)
        filling = [generation.suppressed_ids[0]] * (-len(allowed) % GROUP)
        tokens = torch.tensor([*allowed, *filling])
        model.restrict_output(tokens)
        model.output_bias[len(allowed) :] = -torch.inf
    elif beams and not shortlisted and not generation.renormalize_logits:
        rules = generation
    else:
        model.output_bias[list(generation.suppressed_ids)] = -torch.inf
    return model, (BeamSearch if beams else GreedySearch)(rules, vocab_size, tokens)


class StepGraph(nn.Module):
    """One step: the model's, then the search's."""

    def __init__(self, model: Seq2SeqModel, layout: Layout) -> None:
        super().__init__()
        self.model, self.layout, self.search = model, layout, layout.search

    def forward(self, step: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Runs a step on ``step`` (int64 scalar, from 0) and the call's options, the search's state, the model's state.

        Returns:
            The next step's number; whether enough of the batch goes on (bool scalar); the search's next state; the
            model's carried tensors; the logits.
        """
        layout, remaining = self.layout, list(tensors)
        options: Any = self.search.Options(*(remaining.pop(0) for _ in layout.options))
        search_state: Any = self.search.State(*(remaining.pop(0) for _ in layout.search_slots))
        state, shortlisted = layout.rebuild(remaining)
        logits, state, search_state = self.search.advance(self.model, state, search_state, step, options, shortlisted)
        going = search_state.open.float().mean(dim=0) > WORTH_SHRINKING
        tensors_now = dict(named_tensors(state))
        carried = (tensors_now[slot.name] for slot in layout.carried)
        return step + 1, going, *search_state, *carried, logits
