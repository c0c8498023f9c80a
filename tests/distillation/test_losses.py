"""Losses and their gradients against PyTorch's own, and against sums written out."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from compressor.distillation import losses


def test_soft_cross_entropy_and_its_gradient_match_torch() -> None:
    torch.manual_seed(0)
    values, teacher = torch.randn(6, 9), torch.randn(6, 9).softmax(dim=-1)
    ours, theirs = values.clone().requires_grad_(), values.clone().requires_grad_()
    loss, expected = losses.soft_cross_entropy(ours, teacher), F.cross_entropy(theirs, teacher, reduction="sum")
    (3 * loss).backward()
    (3 * expected).backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_soft_cross_entropy_is_forward_kl_plus_entropy() -> None:
    student, teacher = torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([[0.5, 0.25, 0.25]])
    entropy = 0.5 * math.log(2) + 2 * 0.25 * math.log(4)
    divergence = F.kl_div(student.log_softmax(-1), teacher, reduction="batchmean")
    assert losses.soft_cross_entropy(student, teacher).item() == pytest.approx(divergence.item() + entropy)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_hard_cross_entropy_and_its_gradient_match_torch(smoothing: float) -> None:
    torch.manual_seed(0)
    values, labels = torch.randn(6, 9), torch.tensor([3, losses.IGNORED, 0, 8, 3, losses.IGNORED])
    ours, theirs = values.clone().requires_grad_(), values.clone().requires_grad_()
    loss = losses.hard_cross_entropy(ours, labels, smoothing)
    options = {"ignore_index": losses.IGNORED, "label_smoothing": smoothing, "reduction": "sum"}
    expected = F.cross_entropy(theirs, labels, **options)  # type: ignore[arg-type]
    (3 * loss).backward()
    (3 * expected).backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_ignored_labels_carry_no_loss() -> None:
    values, labels = torch.tensor([[1.0, 2.0], [0.0, 1.0], [4.0, 3.0]]), torch.tensor([0, losses.IGNORED, 1])
    for smoothing in (0.0, 0.1):
        expected = []
        for (first, second), label in (((1.0, 2.0), 0), ((4.0, 3.0), 1)):
            log_z = math.log(math.exp(first) + math.exp(second))
            uniform = log_z - (first + second) / 2
            expected.append((1 - smoothing) * (log_z - (first, second)[label]) + smoothing * uniform)
        assert losses.hard_cross_entropy(values, labels, smoothing).item() == pytest.approx(sum(expected))
