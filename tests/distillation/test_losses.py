"""Losses and their gradients against PyTorch's own, and against sums written out."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from compressor.distillation import losses
from compressor.distillation.targets import Divergence

WEIGHT, SKEW = 0.3, 0.1


def kl(first: np.ndarray, second: np.ndarray) -> float:
    """Σ_v p(v) log(p(v) / q(v)), written out."""
    pairs = zip(first.ravel().tolist(), second.ravel().tolist(), strict=True)
    return sum(p * math.log(p / q) for p, q in pairs if p)


def written_out_jensen_shannon(teacher: np.ndarray, student: np.ndarray) -> float:
    mixture = WEIGHT * teacher + (1 - WEIGHT) * student
    return WEIGHT * kl(teacher, mixture) + (1 - WEIGHT) * kl(student, mixture)


DIVERGENCES: list[tuple[Divergence, Callable[[np.ndarray, np.ndarray], float]]] = [
    (losses.reverse_kl, lambda teacher, student: kl(student, teacher)),
    (partial(losses.jensen_shannon, weight=WEIGHT), written_out_jensen_shannon),
    (
        partial(losses.skew_kl, skew=SKEW),
        lambda teacher, student: kl(teacher, SKEW * teacher + (1 - SKEW) * student),
    ),
]
"""Each with its sum written out, of the teacher's and the student's probabilities."""


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


@pytest.mark.parametrize(("divergence", "written_out"), DIVERGENCES)
def test_divergences_and_their_gradients_match_sums_written_out(
    divergence: Divergence, written_out: Callable[[np.ndarray, np.ndarray], float]
) -> None:
    draws = np.random.default_rng(0)
    logits, teacher = draws.normal(size=(4, 6)), draws.dirichlet(np.ones(6), size=4)

    def expected(values: np.ndarray) -> float:
        exponentials = np.exp(values)
        return written_out(teacher, exponentials / exponentials.sum(axis=1, keepdims=True))

    values, step = torch.tensor(logits, requires_grad=True), 1e-6
    loss = divergence(values, torch.tensor(teacher))
    loss.backward()
    assert loss.item() == pytest.approx(expected(logits), rel=1e-12)
    assert values.grad is not None
    for place in np.ndindex(logits.shape):
        moved = np.zeros_like(logits)
        moved[place] = step
        slope = (expected(logits + moved) - expected(logits - moved)) / (2 * step)
        assert values.grad[place].item() == pytest.approx(slope, abs=1e-8)


@pytest.mark.parametrize("divergence", [divergence for divergence, _ in DIVERGENCES])
def test_divergences_are_zero_between_equals_and_finite_between_opposites(divergence: Divergence) -> None:
    torch.manual_seed(0)
    values = torch.randn(3, 5)
    assert divergence(values, values.softmax(dim=-1)).item() == pytest.approx(0.0, abs=1e-6)
    certain = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)  # the others' probabilities are 0 in float32
    loss = divergence(certain, torch.tensor([[0.0, 1.0, 0.0]]))
    loss.backward()
    assert loss.isfinite() and loss.item() > 0.5 * math.log(2) * WEIGHT
    assert certain.grad is not None and certain.grad.isfinite().all()


def test_the_generalised_divergence_is_torchs_and_has_both_kls_as_limits() -> None:
    torch.manual_seed(0)
    logits, teacher = torch.randn(6, 9, dtype=torch.double), torch.randn(6, 9, dtype=torch.double).softmax(dim=-1)
    student = logits.softmax(dim=-1)
    middle = ((teacher + student) / 2).log()
    halves = [F.kl_div(middle, one, reduction="sum") / 2 for one in (teacher, student)]
    torch.testing.assert_close(losses.jensen_shannon(logits, teacher, 0.5), sum(halves))
    near = 1e-5
    forward, reverse = kl(teacher.numpy(), student.numpy()), kl(student.numpy(), teacher.numpy())
    assert losses.jensen_shannon(logits, teacher, near).item() / near == pytest.approx(forward, rel=1e-3)
    assert losses.jensen_shannon(logits, teacher, 1 - near).item() / near == pytest.approx(reverse, rel=1e-3)


def test_chosen_tokens_and_the_rest_have_the_added_probabilities() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 7, dtype=torch.double, requires_grad=True)
    best = torch.tensor([[0, 3], [6, 1], [2, 5], [4, 0]])
    probabilities = logits.detach().softmax(dim=-1).numpy()
    expected = [[row[a], row[b], 1 - row[a] - row[b]] for row, (a, b) in zip(probabilities, best.tolist(), strict=True)]
    ours = losses.best_and_rest(logits, best).softmax(dim=-1)
    np.testing.assert_allclose(ours.detach().numpy(), expected, rtol=1e-12)
    assert torch.autograd.gradcheck(lambda values: losses.best_and_rest(values, best), (logits,))
