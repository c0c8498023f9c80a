"""The SSRU decoder against its own equations, and recurrent decoders against a beam search that keeps no state."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from compressor.decoding.search import beam_search, greedy
from compressor.generation_config import GenerationConfig
from compressor.models.base import Seq2SeqModel
from compressor.models.recurrent import SsruCell
from compressor.models.scans import (
    GatedScan,
    LinearScan,
    backward_parallel_scan,
    backward_scan_by_steps,
    parallel_scan,
    scan_by_steps,
)
from tests.models.test_contract import lively
from tests.models.test_transformer import RULES, sources


def plain_recurrence(forget: Tensor, update: Tensor) -> Tensor:
    """The recurrence of the paper, a position at a time."""
    cell, cells = torch.zeros_like(update[:, 0]), []
    for position in range(update.shape[1]):
        cell = forget[:, position] * cell + update[:, position]
        cells.append(cell)
    return torch.stack(cells, dim=1)


@pytest.mark.parametrize("scan", [parallel_scan, scan_by_steps])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 16, 33])
def test_scans_equal_the_recurrence(scan: Callable[[Tensor, Tensor], Tensor], length: int) -> None:
    torch.manual_seed(0)
    forget, update = torch.rand(3, length, 5), torch.randn(3, length, 5)
    torch.testing.assert_close(scan(forget, update), plain_recurrence(forget, update), atol=1e-5, rtol=0)


@pytest.mark.parametrize("scan", [parallel_scan, scan_by_steps])
def test_gates_near_zero_and_one_stay_finite(scan: Callable[[Tensor, Tensor], Tensor]) -> None:
    forget = torch.tensor([0.0, 1e-30, 1.0, 0.5]).repeat(32)[None, :, None]
    update = torch.full_like(forget, 3.0)
    torch.testing.assert_close(scan(forget, update), plain_recurrence(forget, update), atol=1e-4, rtol=1e-5)


def test_gradients_of_the_scan_are_those_of_the_recurrence() -> None:
    torch.manual_seed(0)
    cell, inputs = SsruCell(6).double(), torch.randn(2, 9, 6, dtype=torch.float64)
    forget, update = cell._forget_and_update(inputs)
    weights = torch.randn(2, 9, 6, dtype=torch.float64)
    parameters = list(cell.parameters())
    expected = torch.autograd.grad((plain_recurrence(forget, update).relu() * weights).sum(), parameters)
    actual = torch.autograd.grad((cell(inputs) * weights).sum(), parameters)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scan", [backward_parallel_scan, backward_scan_by_steps])
@pytest.mark.parametrize("length", [1, 2, 3, 16, 33])
def test_backward_scans_equal_the_gradient_of_the_recurrence(
    scan: Callable[[Tensor, Tensor], Tensor], length: int
) -> None:
    torch.manual_seed(0)
    forget, update, upstream = torch.rand(3, length, 5), torch.randn(3, length, 5), torch.randn(3, length, 5)
    update.requires_grad_()
    (expected,) = torch.autograd.grad((plain_recurrence(forget, update) * upstream).sum(), update)
    torch.testing.assert_close(scan(forget, upstream), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("scan", "shapes"), [(LinearScan, [(2, 9, 6)] * 2), (GatedScan, [(2, 9, 6), (2, 9, 6), (6,), (2, 6)])]
)
def test_a_gradient_is_the_same_a_second_time_and_leaves_its_inputs(scan: type, shapes: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    arguments = [torch.rand(*shape, requires_grad=True) for shape in shapes]
    before, cells, upstream = [one.detach().clone() for one in arguments], scan.apply(*arguments), torch.rand(2, 9, 6)
    written, given = cells.detach().clone(), upstream.clone()
    first, second = (torch.autograd.grad(cells, arguments, upstream, retain_graph=True) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert torch.equal(cells, written) and torch.equal(upstream, given)
    assert all(torch.equal(one, other) for one, other in zip(arguments, before, strict=True))


def test_gradients_do_not_depend_on_the_scan() -> None:
    torch.manual_seed(0)
    forget = torch.rand(2, 9, 6, dtype=torch.float64, requires_grad=True)
    update = torch.randn(2, 9, 6, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 9, 6, dtype=torch.float64)
    expected = torch.autograd.grad((parallel_scan(forget, update) * weights).sum(), (forget, update))
    actual = torch.autograd.grad((LinearScan.apply(forget, update) * weights).sum(), (forget, update))
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other)


def plain_beam_search(net: Seq2SeqModel, rules: GenerationConfig, source: Tensor, beams: int) -> list[int]:
    """Beam search of one source in plain Python; every prefix is decoded anew.

    Stops as Hugging Face does with ``early_stopping=True``: when as many hypotheses have ended as there are beams.
    """
    memory = net.encode(source[None], torch.ones(1, len(source), dtype=torch.bool))
    running: list[tuple[float, list[int]]] = [(0.0, [])]
    ended: list[tuple[float, list[int]]] = []
    for length in range(1, rules.max_new_tokens + 1):
        candidates = []
        for score, tokens in running:
            log_probs = net.decode(memory, torch.tensor([[rules.start_id, *tokens]]))[0, -1].log_softmax(dim=-1)
            log_probs[list(rules.suppressed_ids)] = -torch.inf
            if length == rules.max_new_tokens:
                candidates.append((score, [*tokens, rules.eos_id]))
                continue
            candidates += [(score + value, [*tokens, token]) for token, value in enumerate(log_probs.tolist())]
        best = sorted(candidates, key=lambda pair: -pair[0])[: 2 * beams]
        for rank, (score, tokens) in enumerate(best):
            if tokens[-1] == rules.eos_id and rank < beams:
                ended.append((score / length**rules.length_penalty, tokens))
        running = [(score, tokens) for score, tokens in best if tokens[-1] != rules.eos_id][:beams]
        if len(ended) >= beams or not running:
            break
    return max(ended, key=lambda pair: pair[0])[1]


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["ssru", "sru"])
@pytest.mark.parametrize("beams", [3, 4])
def test_beam_search_equals_one_that_recomputes_every_prefix(architecture: str, beams: int) -> None:
    net, (source, mask) = lively(architecture), sources(9)
    rules = RULES.model_copy(update={"early_stopping": True})
    outputs = [best[0].tokens for best in beam_search(net, rules, source, mask, num_beams=beams)]
    rows = zip(source, mask, strict=True)
    assert outputs == [plain_beam_search(net, rules, row[real], beams) for row, real in rows]
    assert len({len(tokens) for tokens in outputs}) > 1


@pytest.mark.parametrize("architecture", ["ssru", "sru"])
@pytest.mark.parametrize("search", ["greedy", "beams"])
def test_an_output_does_not_depend_on_its_batch(architecture: str, search: str) -> None:
    net, (source, mask) = lively(architecture), sources(9)

    def outputs(source: Tensor, mask: Tensor) -> list[list[int]]:
        if search == "greedy":
            return greedy(net, RULES, source, mask)
        return [best[0].tokens for best in beam_search(net, RULES, source, mask, num_beams=3)]

    for row, expected in enumerate(outputs(source, mask)):
        length = int(mask[row].sum())
        assert outputs(source[row : row + 1, :length], mask[row : row + 1, :length]) == [expected]
