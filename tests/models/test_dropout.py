"""Dropout against its definition: shares, scale, gradient, and PyTorch's own in inference."""

from __future__ import annotations

import pytest
import torch

from compressor.models.dropout import dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_drops_a_share_and_keeps_the_mean(dtype: torch.dtype, probability: float) -> None:
    torch.manual_seed(0)
    values = torch.ones(401, 499, dtype=dtype, requires_grad=True)
    dropped = dropout(values, probability, training=True)
    stays = dropped != 0
    deviation = (probability * (1 - probability) / values.numel()) ** 0.5
    assert stays.float().mean().item() == pytest.approx(1 - probability, abs=4 * deviation + 2**-15)
    assert dropped[stays].float().unique().tolist() == [pytest.approx(1 / (1 - probability), rel=4e-3)]
    (2 * dropped).sum().backward()
    torch.testing.assert_close(values.grad, 2 * dropped.detach())


def test_draws_are_independent_and_keyed_by_the_seed() -> None:
    values = torch.ones(64, 4096)
    torch.manual_seed(1)
    first, second = (dropout(values, 0.3, training=True) for _ in range(2))
    torch.manual_seed(1)
    assert dropout(values, 0.3, training=True).equal(first)
    assert not first.equal(second)
    stays = (first != 0).double()
    neighbours = torch.corrcoef(torch.stack([stays[:, :-1].flatten(), stays[:, 1:].flatten()]))[0, 1]
    assert abs(neighbours.item()) < 4 / values.numel() ** 0.5


@pytest.mark.parametrize(("probability", "training"), [(0.0, True), (0.3, False)])
def test_changes_nothing_without_probability_or_in_inference(probability: float, training: bool) -> None:
    values = torch.randn(5, 7)
    assert dropout(values, probability, training).equal(values)


def test_probability_one_drops_all() -> None:
    assert not dropout(torch.ones(5, 7), 1.0, training=True).any()
