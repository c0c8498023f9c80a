"""Signals: what training reads of the teacher, from the live model or from the run folder.

Shapes: batch, source_len, context_len, positions = those that carry loss, columns = tokens that may be generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from rich.console import Console
from torch import Tensor

from compressor.data.batching import Batch, TokenRows
from compressor.distillation.contexts import Contexts, TokenIds
from compressor.distillation.labels import (
    Labels,
    OpenLabelEngine,
    best_outputs,
    cut_outputs,
    needs_labels,
    write_labels,
)
from compressor.distillation.setup import Setup


class Signal(Protocol):
    """What context policies and targets read of the teacher."""

    def outputs(self, indices: Sequence[int]) -> list[TokenIds]:
        """Returns the teacher's best output of each training source, cut at ``data.max_target_tokens``."""

    def logits(self, batch: Batch, contexts: Contexts, rows: Tensor, tokens: Tensor) -> Tensor:
        """Returns next-token logits [positions of the rows, columns], without gradient.

        Args:
            batch: the sources.
            contexts: the prefixes.
            rows: bool [batch], the rows wanted.
            tokens: int64 [columns], the tokens wanted.
        """


class LiveTeacher:
    """Signal of the model in memory."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def outputs(self, indices: Sequence[int]) -> list[TokenIds]:
        """See Signal."""
        setup = self.setup
        assert setup.teacher is not None and setup.recipe.teacher is not None  # the recipe's validation
        sources = [setup.train.sources[index].tolist() for index in indices]
        return list(cut_outputs(setup, best_outputs(setup.teacher, setup, sources, setup.recipe.teacher.num_beams)))

    def logits(self, batch: Batch, contexts: Contexts, rows: Tensor, tokens: Tensor) -> Tensor:
        """See Signal."""
        teacher = self.setup.teacher
        assert teacher is not None  # the recipe's validation
        source, source_mask = batch.source[rows], batch.source_mask[rows]
        return teacher.logits(source, source_mask, contexts.tokens[rows], contexts.loss_mask[rows], tokens)


class RecordedOutputs(LiveTeacher):
    """Signal whose outputs were written before training; logits are those of the model in memory."""

    def __init__(self, setup: Setup, rows: TokenRows) -> None:
        super().__init__(setup)
        self.rows = rows

    def outputs(self, indices: Sequence[int]) -> list[TokenIds]:
        """See Signal."""
        return [self.rows[index] for index in indices]


def prepare_signal(
    setup: Setup, out: Path, console: Console, open_exported: OpenLabelEngine | None = None
) -> tuple[Signal, Labels]:
    """Writes what the method reads of the teacher beforehand to the run folder ``out``; see ``labels.write_labels``.

    Returns:
        The signal, and the labels, empty if the method reads none.
    """
    if not needs_labels(setup):
        return LiveTeacher(setup), Labels()
    labels = write_labels(setup, out, console, open_exported)
    return RecordedOutputs(setup, labels.rows), labels
