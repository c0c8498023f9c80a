"""Signals: what training reads of the teacher, from the live model or from a label store.

Shapes: batch, source_len, context_len, positions = those that carry loss, columns = tokens that may be generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from rich.console import Console
from torch import Tensor

from compressor.data.batching import Batch
from compressor.distillation.chosen_hypotheses import chosen_hypotheses
from compressor.distillation.contexts import Contexts, TokenIds
from compressor.distillation.label_engines import OpenLabelEngine
from compressor.distillation.label_store import LabelStore
from compressor.distillation.labels import needs_labels, write_labels
from compressor.distillation.setup import Setup
from compressor.distillation.top_k_labels import dense_logits
from compressor.progress import Bar
from compressor.run_folder import LABELS_FOLDER


class Signal(Protocol):
    """What context policies and targets read of the teacher."""

    def outputs(self, indices: Sequence[int], visits: Sequence[int]) -> list[TokenIds]:
        """Returns the teacher's output of each training source that the method chooses, cut at its longest.

        Args:
            indices: the sources' positions in the corpus.
            visits: how often each was trained on before; several chosen outputs are taken in turn.
        """

    def logits(self, batch: Batch, contexts: Contexts, rows: Tensor, tokens: Tensor) -> Tensor:
        """Returns next-token logits [positions of the rows, columns], without gradient.

        Args:
            batch: the sources.
            contexts: the prefixes.
            rows: bool [batch], the rows wanted.
            tokens: int64 [columns], the tokens wanted.
        """


class LiveTeacher:
    """Signal of the model in memory: distributions. Outputs are written before training, and read as labels."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def outputs(self, indices: Sequence[int], visits: Sequence[int]) -> list[TokenIds]:
        """Raises RuntimeError: there are no labels."""
        raise RuntimeError("the method reads the teacher's outputs: give Trainer the signal of prepare_signal")

    def logits(self, batch: Batch, contexts: Contexts, rows: Tensor, tokens: Tensor) -> Tensor:
        """See Signal."""
        teacher = self.setup.teacher
        assert teacher is not None  # the recipe's validation
        source, source_mask = batch.source[rows], batch.source_mask[rows]
        return teacher.logits(source, source_mask, contexts.tokens[rows], contexts.loss_mask[rows], tokens)


class StoredLabels(LiveTeacher):
    """Signal of a label store; without a model in memory, distributions are the store's, too."""

    def __init__(self, setup: Setup, store: LabelStore, spare: Path, bar: Bar) -> None:
        """``spare``, ``bar``: see ``chosen_hypotheses``."""
        super().__init__(setup)
        self.store, self.teacher = store, store.teacher()
        self.places = chosen_hypotheses(setup, store, spare, bar)

    def outputs(self, indices: Sequence[int], visits: Sequence[int]) -> list[TokenIds]:
        """See Signal."""
        if self.places is None:
            return [self.store.output(index) for index in indices]
        chosen = [(self.places[index], visit) for index, visit in zip(indices, visits, strict=True)]
        turns = [int(places[visit % (places >= 0).sum()]) for places, visit in chosen]
        return [self.store.output(index, place) for index, place in zip(indices, turns, strict=True)]

    def logits(self, batch: Batch, contexts: Contexts, rows: Tensor, tokens: Tensor) -> Tensor:
        """See Signal; from the store, contexts must be the best outputs."""
        if self.setup.teacher is not None:
            return super().logits(batch, contexts, rows, tokens)
        stored = [self.store.top_k(batch.indices[row]) for row in rows.nonzero()[:, 0].tolist()]
        return dense_logits(stored, tokens, self.teacher)


def prepare_signal(
    setup: Setup, out: Path, console: Console, open_exported: OpenLabelEngine | None = None
) -> tuple[Signal, LabelStore | None]:
    """Returns what the method reads of the teacher, and its labels; see ``labels.write_labels``.

    Labels are those that the recipe names, or are written to the run folder ``out``; None if the method reads none.
    """
    store = setup.label_store
    if needs_labels(setup):
        store = write_labels(setup, out / LABELS_FOLDER, console, open_exported, replace=True)
    if store is None:
        return LiveTeacher(setup), None
    with Bar(console, shown=not console.quiet) as bar:
        return StoredLabels(setup, store, out, bar), store
