"""SRUs against their equations written out, padding, and what a recipe may say of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from compressor.config import load_recipe
from compressor.errors import ConfigError
from compressor.model_config import SruConfig, SruModelConfig, TransformerModelConfig, complete_config
from compressor.models.base import count_parameters
from compressor.models.registry import build_model
from compressor.models.scans import GatedScan
from compressor.models.sru import Sru, SruLayer
from tests.models.test_contract import lively
from tests.models.test_transformer import sources
from tests.recipes import CONFIGS

DOUBLE = torch.float64


def plain_gated_scan(candidate: Tensor, gate: Tensor, weight: Tensor, initial: Tensor) -> Tensor:
    """Equations 1 and 2 of Lei et al. 2018, a position at a time."""
    cell, cells = initial, []
    for position in range(candidate.shape[1]):
        forget = torch.sigmoid(gate[:, position] + weight * cell)
        cell = forget * cell + (1 - forget) * candidate[:, position]
        cells.append(cell)
    return torch.stack(cells, dim=1)


@pytest.mark.parametrize("length", [1, 2, 7, 33])
def test_scan_and_its_gradients_equal_a_plain_loop(length: int) -> None:
    torch.manual_seed(0)
    candidate, gate = (torch.randn(3, length, 5, dtype=DOUBLE, requires_grad=True) for _ in range(2))
    weight, initial = (torch.randn(*size, dtype=DOUBLE, requires_grad=True) for size in ((5,), (3, 5)))
    arguments, upstream = (candidate, gate, weight, initial), torch.randn(3, length, 5, dtype=DOUBLE)
    expected, actual = plain_gated_scan(*arguments), GatedScan.apply(*arguments)
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=0)
    wanted = torch.autograd.grad((expected * upstream).sum(), arguments)
    given = torch.autograd.grad((actual * upstream).sum(), arguments)
    for one, other in zip(given, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-11, rtol=0)


def layer(directions: int, inputs: int, **changes: Any) -> SruLayer:
    torch.manual_seed(1)
    made = SruLayer(SruModelConfig(vocab_size=9, pad_id=8, hidden_size=8, **changes), inputs, directions)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return made


def written_out(
    made: SruLayer, row: Tensor, part: slice = slice(None), initial: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One direction of a layer over one sequence [len, width]: [len, units] of the ``part`` of 8, and the last cell."""
    inner = made.norm(row)
    if isinstance(made.contract, torch.nn.Linear):
        inner = inner @ made.contract.weight.T
    blocks = [block[part] for block in made.weight.weight.chunk(made.parts)]
    cell, outputs = torch.zeros(blocks[0].shape[0]) if initial is None else initial, []
    for given, projected in zip(row, inner, strict=True):
        forget = torch.sigmoid(blocks[1] @ projected + made.forget_cell[part] * cell + made.forget_bias[part])
        reset = torch.sigmoid(blocks[2] @ projected + made.reset_cell[part] * cell + made.reset_bias[part])
        cell = forget * cell + (1 - forget) * (blocks[0] @ projected)
        skip = blocks[3] @ projected if made.parts == 4 else given[part] * 3**0.5
        outputs.append(reset * cell + (1 - reset) * skip)
    return torch.stack(outputs), cell


@torch.no_grad()
@pytest.mark.parametrize("changes", [{}, {"layer_norm": True}, {"layer_norm": True, "projection": 8}])
@pytest.mark.parametrize("inputs", [8, 12])
@pytest.mark.parametrize("directions", [1, 2])
def test_a_layer_equals_its_equations(directions: int, inputs: int, changes: dict[str, Any]) -> None:
    made, lengths = layer(directions, inputs, **changes), [5, 3, 1]
    values = torch.randn(3, 5, inputs)
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    initial = torch.randn(3, 8) if directions == 1 else None
    outputs, cells = made(values, mask, initial)
    for row, length in enumerate(lengths):
        real = values[row, :length]
        if directions == 1:
            assert initial is not None
            expected, cell = written_out(made, real, initial=initial[row])
        else:
            ahead, cell_ahead = written_out(made, real, slice(4))
            back, cell_back = written_out(made, real.flip(0), slice(4, None))
            expected, cell = torch.cat([ahead, back.flip(0)], dim=1), torch.cat([cell_ahead, cell_back])
        torch.testing.assert_close(outputs[row, :length], expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(cells[row], cell, atol=1e-5, rtol=0)


@torch.no_grad()
def test_padding_does_not_change_the_memory() -> None:
    net, (source, mask) = lively("sru"), sources(6)
    together = net.encode(source, mask)
    wide, wide_mask = (torch.nn.functional.pad(values, (0, 3)) for values in (source, mask))
    wider = net.encode(wide, wide_mask)
    for row, length in enumerate(mask.sum(dim=1).tolist()):
        alone = net.encode(source[row : row + 1, :length], mask[row : row + 1, :length])
        for padded in (together, wider):
            torch.testing.assert_close(padded.hidden[row, :length], alone.hidden[0], atol=1e-6, rtol=0)
            for cell, expected in zip(padded.cells, alone.cells, strict=True):
                torch.testing.assert_close(cell[row], expected[0], atol=1e-6, rtol=0)


@torch.no_grad()
def test_features_are_those_of_the_paper_written_out() -> None:
    net, (source, mask) = lively("sru"), sources(1)
    assert isinstance(net, Sru)
    memory, context = net.encode(source, mask), torch.tensor([[60, 3, 7]])
    hidden = net.embedding["shared"][context[0]] * 4  # the square root of the width, 16
    for each, cell in zip(net.decoder, memory.cells, strict=True):
        hidden, _ = written_out(each, hidden, initial=cell[0])
    scores = hidden @ memory.hidden[0].T / memory.hidden.shape[-1] ** 0.5
    attended = scores.softmax(dim=-1) @ memory.hidden[0]
    joined = torch.tanh(torch.cat([hidden, attended], dim=-1) @ net.combine.weight.T + net.combine.bias)
    expected = joined @ net.contract.weight.T + net.contract.bias
    torch.testing.assert_close(net.features(memory, context)[0], expected, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(("encoder", "decoder", "starts"), [(3, 1, [2]), (1, 3, [None, None, 0]), (2, 2, [0, 1])])
def test_decoder_layers_start_from_the_encoders_cells(encoder: int, decoder: int, starts: list[int | None]) -> None:
    shape = {"encoder_layers": encoder, "decoder_layers": decoder, "hidden_size": 8, "d_model": 8}
    net, (source, mask) = build_model(SruModelConfig(vocab_size=61, pad_id=0, **shape)), sources(3)
    memory = net.encode(source, mask)
    for cell, start in zip(net.initial_state(memory).cell, starts, strict=True):
        expected = torch.zeros(3, 8) if start is None else memory.cells[start]
        torch.testing.assert_close(cell[:, 0], expected, atol=0, rtol=0)


def test_the_papers_student_has_the_papers_matrices() -> None:
    config = complete_config(
        load_recipe(CONFIGS / "iwslt14-de-en/sru/vanilla.yaml").student, vocab_size=14000, pad_id=0
    )
    layers = 2 * (4 * 512 * 256 + 3 * 512 * 512) + 4 * 4 * 512  # two a side; four vectors a layer
    top = 1024 * 512 + 512 + 512 * 256 + 256
    assert count_parameters(build_model(config)) == 2 * 14000 * 256 + 14000 + layers + top


def test_an_odd_hidden_size_and_foreign_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="hidden_size 33 must be even"):
        SruConfig(hidden_size=33)
    with pytest.raises(ValueError, match="num_heads"):
        SruConfig(num_heads=4)  # type: ignore[call-arg]


def test_layers_are_not_copied_from_or_into_srus() -> None:
    sru = build_model(SruModelConfig(vocab_size=9, pad_id=8))
    transformer = build_model(TransformerModelConfig(vocab_size=9, pad_id=8))
    with pytest.raises(ConfigError, match="not for sru"):
        sru.load_layers(transformer)
    with pytest.raises(ConfigError, match="do not fit"):
        transformer.load_layers(sru)
    expected = transformer.target_embeddings()
    sru.load_embeddings(expected)
    assert sru.target_embeddings().shape == expected.shape
