"""Runs that end without a trace, and the losses that runs have written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from compressor.distillation.trainer import Trainer


class Killed(Exception):
    """Stands for a kill: raised between two groups of batches."""


@contextmanager
def killed_at(stop: int) -> Iterator[None]:
    """Has every run in the block end before the group of batches that begins at update ``stop``, or after it."""
    train_group = Trainer.train_group

    def killed(self: Trainer, group: list, update: int) -> list:
        if update >= stop:
            raise Killed
        return train_group(self, group, update)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Trainer, "train_group", killed)
        yield


def metrics(run: Path) -> list[dict[str, Any]]:
    """Returns the lines of the training curves."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def losses(run: Path) -> list[float]:
    """Returns the loss of each update, as the run has written it."""
    return [line["loss"] for line in metrics(run) if "loss" in line]
