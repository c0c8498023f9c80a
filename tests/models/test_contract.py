"""What every architecture promises (``Seq2SeqModel``): whole prefixes, steps, reordered beams and fewer rows agree."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from compressor.model_config import ARCHITECTURES, StudentConfig, complete_config
from compressor.models.base import Seq2SeqModel
from compressor.models.registry import build_model
from compressor.models.sru import Sru
from tests.models.test_transformer import EOS, PAD, VOCAB, sources

SIZES = {"d_model": 16, "num_heads": 2, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn": 24, "max_length": 32}
SIZES |= {"hidden_size": 20}
LENGTH = 8


def small_student(architecture: str, sizes: dict[str, Any]) -> Any:
    """The configuration of an architecture with those of the sizes that it has."""
    adapter: TypeAdapter[Any] = TypeAdapter(StudentConfig)
    fields = type(adapter.validate_python({"architecture": architecture})).model_fields
    given = {name: value for name, value in sizes.items() if name in fields}
    return adapter.validate_python({"architecture": architecture, **given})


def lively(architecture: str, **changes: Any) -> Seq2SeqModel:
    """A model whose biases and norms are not those of a fresh one, and whose outputs end."""
    torch.manual_seed(9)
    student = small_student(architecture, SIZES | changes)
    model = build_model(complete_config(student, VOCAB, PAD)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
        if isinstance(model, Sru):
            model.contract.weight.mul_(3.0)  # fresh features are small, and the bias would end every output at once
        model.output_bias[EOS] += 3.0
    return model


def contexts(rows: int) -> Tensor:
    return torch.randint(1, VOCAB - 1, (rows, LENGTH), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(
    "changes",
    [{}, {"norm": "pre", "layer_norm": True, "projection": 8}, {"positions": "learned", "embedding_norm": True}],
    ids=["", "norms", "BART"],
)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_whole_prefixes_equal_repeated_steps(architecture: str, changes: dict[str, Any]) -> None:
    model, (source, mask) = lively(architecture, **changes), sources()
    memory, context = model.encode(source, mask), contexts(len(source))
    state, steps = model.initial_state(memory), []
    for position in range(LENGTH):
        logits, state = model.step(context[:, position], state)
        steps.append(logits)
    torch.testing.assert_close(torch.stack(steps, dim=1), model.decode(memory, context), atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_reordered_beams_continue_their_parents_prefixes(architecture: str) -> None:
    model, (source, mask) = lively(architecture), sources(3)
    memory, tokens = model.encode(source, mask), contexts(6).reshape(3, 2, LENGTH)
    parents = torch.tensor([[1, 0], [1, 1], [0, 0]])
    state, histories = model.initial_state(memory, num_beams=2), tokens[:, :, :0]
    for position in range(LENGTH):
        logits, state = model.step(tokens[:, :, position], state)
        histories = torch.cat([histories, tokens[:, :, position : position + 1]], dim=2)
        for beam in range(2):
            expected = model.decode(memory, histories[:, beam])[:, -1]
            torch.testing.assert_close(logits[:, beam], expected, atol=1e-5, rtol=0)
        state = model.reorder(state, parents)
        histories = histories.gather(1, parents[:, :, None].expand(-1, -1, position + 1))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_selected_rows_continue_as_they_were(architecture: str) -> None:
    model, (source, mask) = lively(architecture), sources(4)
    memory, context, rows = model.encode(source, mask), contexts(4), torch.tensor([3, 1])
    _, state = model.step(context[:, 0], model.initial_state(memory))
    expected, _ = model.step(context[:, 1], state)
    logits, _ = model.step(context[rows, 1], model.select(state, rows))
    torch.testing.assert_close(logits, expected[rows], atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_chosen_columns_are_those_of_all_logits(architecture: str) -> None:
    model, (source, mask) = lively(architecture), sources(4)
    memory, context, columns = model.encode(source, mask), contexts(4), torch.tensor([7, 0, 31])
    all_logits, _ = model.step(context[:, 0], model.initial_state(memory))
    logits, _ = model.step(context[:, 0], model.initial_state(memory), columns)
    torch.testing.assert_close(logits, all_logits[:, columns], atol=1e-5, rtol=0)
    model.restrict_output(columns)
    torch.testing.assert_close(model.decode(memory, context[:, :1])[:, 0], logits, atol=1e-5, rtol=0)
