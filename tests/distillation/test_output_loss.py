"""The loss over pieces of a batch against PyTorch's own over all logits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F

from compressor.distillation import output_loss
from compressor.distillation.losses import IGNORED, hard_cross_entropy
from compressor.distillation.targets import LossInputs, OwnToken


@pytest.mark.parametrize(("together", "in_cache"), [(7, 7), (21, 14), (28, 7), (2**20, 21), (2**20, 2**20)])
def test_total_and_gradients_are_those_of_all_logits(
    together: int, in_cache: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(output_loss.PIECE, "cpu", together)
    monkeypatch.setitem(output_loss.IN_CACHE, "cpu", in_cache)
    torch.manual_seed(0)
    ours = [torch.randn(10, 4), torch.randn(7, 4), torch.randn(7)]
    theirs = [tensor.clone().requires_grad_() for tensor in ours]
    ours = [tensor.requires_grad_() for tensor in ours]
    labels = torch.randint(7, (10,))
    total = output_loss.StudentOutput(*ours).total(lambda logits, rows: hard_cross_entropy(logits, labels[rows]))
    expected = F.cross_entropy(F.linear(*theirs), labels, reduction="sum")
    (total / 10).backward()
    (expected / 10).backward()
    torch.testing.assert_close(total, expected)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our.grad, their.grad)


def test_no_positions_have_no_loss() -> None:
    features, weight, bias = torch.zeros(0, 4, requires_grad=True), torch.ones(7, 4), torch.ones(7)
    total = output_loss.StudentOutput(features, weight, bias).total(lambda logits, rows: logits.sum())
    total.backward()
    assert total == 0 and features.grad is not None


def test_the_mean_of_a_hard_loss_is_that_of_its_parts() -> None:
    """Some labels may not be generated: a reference that was cut at the limit has none at its end."""
    torch.manual_seed(1)
    features, weight, bias = torch.randn(2, 3, 4), torch.randn(7, 4), torch.randn(7)
    labels = torch.tensor([[1, 6, IGNORED], [IGNORED, IGNORED, 0]])

    def mean(rows: slice) -> torch.Tensor:
        part = labels[rows]
        contexts = SimpleNamespace(loss_mask=torch.ones_like(part, dtype=torch.bool))
        output = output_loss.StudentOutput(features[rows].flatten(0, 1), weight, bias)
        return OwnToken().loss(LossInputs(output, cast(Any, contexts), part, cast(Any, None), 0.0))

    logits = (features @ weight.T + bias).flatten(0, 1)
    expected = F.cross_entropy(logits, labels.flatten(), ignore_index=IGNORED, reduction="sum") / 6
    torch.testing.assert_close(mean(slice(2)), expected)
    torch.testing.assert_close((mean(slice(1)) + mean(slice(1, 2))) / 2, expected)
