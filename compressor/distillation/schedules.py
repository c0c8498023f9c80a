"""Schedules of β (the probability of a data-set context) and of the learning rate."""

from __future__ import annotations

import math

from compressor.config import TrainingConfig
from compressor.method_config import ScheduleConfig


def beta(schedule: ScheduleConfig, progress: float) -> float:
    """Returns the probability of a data-set context at ``progress`` in [0, 1] (Lin et al. 2020, section 3).

    It is 1 during the schedule's warm-up; after it, progress is rescaled to run from 0 to 1.
    """
    if progress < schedule.warmup:
        return 1.0
    u = (progress - schedule.warmup) / (1.0 - schedule.warmup)
    match schedule.name:
        case "exponential":
            return float(schedule.r**-u)
        case "linear":
            return 1.0 - u
        case "reversed_sigmoid":
            return 1.0 / (1.0 + math.exp(20.0 * (u - 0.5)))
        case "constant":
            return schedule.value


def learning_rate(training: TrainingConfig, update: int, updates: int, fresh_optimizer: int = 0) -> float:
    """Returns the learning rate of an update: linear warm-up, then decay.

    Args:
        training: The recipe's section.
        update: Number of the update, from 0.
        updates: Number of all updates.
        fresh_optimizer: Update at which the optimizer began without moments, if that is not the first: the rate is
            warmed up from there on as well.
    """
    warmup = min(training.warmup_updates, updates)
    since = update - fresh_optimizer
    share = (since + 1) / warmup if fresh_optimizer and since < warmup else 1.0
    if update < warmup:
        return share * training.learning_rate * (update + 1) / warmup
    match training.lr_schedule:
        case "inverse_sqrt":
            return share * training.learning_rate * math.sqrt(max(warmup, 1) / (update + 1))
        case "cosine":
            u = (update - warmup) / max(updates - warmup, 1)
            return share * training.learning_rate * 0.5 * (1.0 + math.cos(math.pi * u))
        case "linear":
            return share * training.learning_rate * (updates - update) / max(updates - warmup, 1)
