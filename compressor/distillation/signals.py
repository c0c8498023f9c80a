"""Signals: what training reads of the teacher, from the live model or from labels on disk.

Shapes: batch, source_len, context_len, positions = those that carry loss, columns = tokens that may be generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from rich.console import Console
from torch import Tensor

from compressor.data.batching import Batch
from compressor.distillation.contexts import Contexts, TokenIds
from compressor.distillation.label_engines import OpenLabelEngine, TorchEngine, cut_output
from compressor.distillation.label_store import LabelStore
from compressor.distillation.labels import needs_labels, write_labels
from compressor.distillation.setup import Setup
from compressor.distillation.top_k_labels import dense_logits
from compressor.run_folder import LABELS_FOLDER


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
        assert setup.recipe.teacher is not None  # the recipe's validation
        sources = [setup.train.sources[index].tolist() for index in indices]
        searched = TorchEngine.of(setup).hypotheses(sources, setup.recipe.teacher.num_beams)
        return [cut_output(setup.recipe, setup.generation, outputs[0].tokens) for outputs in searched]

    def logits(self, batch: Batch, contexts: Contexts, rows: Tensor, tokens: Tensor) -> Tensor:
        """See Signal."""
        teacher = self.setup.teacher
        assert teacher is not None  # the recipe's validation
        source, source_mask = batch.source[rows], batch.source_mask[rows]
        return teacher.logits(source, source_mask, contexts.tokens[rows], contexts.loss_mask[rows], tokens)


class StoredLabels(LiveTeacher):
    """Signal of a label store; without a model in memory, distributions are the store's, too."""

    def __init__(self, setup: Setup, store: LabelStore) -> None:
        super().__init__(setup)
        self.store = store

    def outputs(self, indices: Sequence[int]) -> list[TokenIds]:
        """See Signal."""
        return self.store.outputs(indices)

    def logits(self, batch: Batch, contexts: Contexts, rows: Tensor, tokens: Tensor) -> Tensor:
        """See Signal; from the store, contexts must be the best outputs."""
        if self.setup.teacher is not None:
            return super().logits(batch, contexts, rows, tokens)
        stored = [self.store.top_k(batch.indices[row]) for row in rows.nonzero()[:, 0].tolist()]
        return dense_logits(stored, tokens, self.store.record.teacher.vocab_size)


def prepare_signal(
    setup: Setup, out: Path, console: Console, open_exported: OpenLabelEngine | None = None
) -> tuple[Signal, LabelStore | None]:
    """Returns what the method reads of the teacher, and its labels; see ``labels.write_labels``.

    Labels are those that the recipe names, or are written to the run folder ``out``; None if the method reads none.
    """
    store = setup.label_store
    if needs_labels(setup):
        store = write_labels(setup, out / LABELS_FOLDER, console, open_exported, replace=True)
    return (LiveTeacher(setup), None) if store is None else (StoredLabels(setup, store), store)
