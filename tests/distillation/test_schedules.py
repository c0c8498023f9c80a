"""β and the learning rate over a run."""

from __future__ import annotations

import math

import pytest

from compressor.config import TrainingConfig
from compressor.distillation.schedules import beta, learning_rate
from compressor.method_config import ScheduleConfig


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"name": "exponential", "r": 200}, {0.0: 1.0, 0.5: 200**-0.5, 1.0: 1 / 200}),
        ({"name": "exponential", "r": 10}, {0.25: 10**-0.25}),
        ({"name": "linear"}, {0.0: 1.0, 0.3: 0.7, 1.0: 0.0}),
        ({"name": "reversed_sigmoid"}, {0.5: 0.5, 0.4: 1 / (1 + math.exp(-2)), 1.0: 1 / (1 + math.exp(10))}),
        ({"name": "constant", "value": 0.25}, {0.0: 0.25, 1.0: 0.25}),
        ({"name": "linear", "warmup": 0.2}, {0.0: 1.0, 0.19: 1.0, 0.6: 0.5, 1.0: 0.0}),
    ],
)
def test_beta_follows_its_schedule(schedule: dict[str, object], expected: dict[float, float]) -> None:
    for progress, value in expected.items():
        assert beta(ScheduleConfig(**schedule), progress) == pytest.approx(value)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", {0: 0.1, 9: 1.0, 10: 1.0, 60: 0.5, 110: 0.0}),
        ("inverse_sqrt", {0: 0.1, 9: 1.0, 39: 0.5}),
        ("cosine", {9: 1.0, 10: 1.0, 60: 0.5, 110: 0.0}),
    ],
)
def test_learning_rate_follows_its_schedule(schedule: str, expected: dict[int, float]) -> None:
    training = TrainingConfig(updates=110, learning_rate=1.0, warmup_updates=10, lr_schedule=schedule)
    for update, value in expected.items():
        assert learning_rate(training, update, 110) == pytest.approx(value, abs=1e-9)
