"""Signals: what training reads of the teacher, from the live model or from a label store.

Shapes: batch, source_len, context_len, positions = those that carry loss, columns = tokens that may be generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from compressor.data.batching import Batch
from compressor.distillation.contexts import Contexts, TokenIds
from compressor.distillation.label_engines import OpenLabelEngine, n_best, torch_engine
from compressor.distillation.label_identity import hypotheses_read
from compressor.distillation.label_store import LabelStore
from compressor.distillation.labels import needs_labels, write_labels
from compressor.distillation.methods import resolve
from compressor.distillation.setup import Setup
from compressor.distillation.top_k_labels import dense_logits
from compressor.progress import Bar
from compressor.run_folder import LABELS_FOLDER

COMPARED_TOGETHER = 2_000
"""Sources whose hypotheses are texts in memory at a time."""


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
    """Signal of the model in memory."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def outputs(self, indices: Sequence[int], visits: Sequence[int]) -> list[TokenIds]:
        """See Signal."""
        setup = self.setup
        sources = [setup.train.sources[index].tolist() for index in indices]
        count, eos_id = hypotheses_read(setup.recipe), setup.generation.eos_id
        searched = n_best(torch_engine(setup), setup.recipe, eos_id, sources, count)
        tokens = [[one.tokens for one in of_source] for of_source in searched]
        turns = zip(tokens, chosen_places(setup, indices, tokens), visits, strict=True)
        return [outputs[places[visit % len(places)]] for outputs, places, visit in turns]

    def logits(self, batch: Batch, contexts: Contexts, rows: Tensor, tokens: Tensor) -> Tensor:
        """See Signal."""
        teacher = self.setup.teacher
        assert teacher is not None  # the recipe's validation
        source, source_mask = batch.source[rows], batch.source_mask[rows]
        return teacher.logits(source, source_mask, contexts.tokens[rows], contexts.loss_mask[rows], tokens)


class StoredLabels(LiveTeacher):
    """Signal of a label store; without a model in memory, distributions are the store's, too."""

    def __init__(self, setup: Setup, store: LabelStore, console: Console) -> None:
        """Chooses outputs of all sources; a bar shows it."""
        super().__init__(setup)
        self.store, self.teacher = store, store.teacher()
        compares = resolve(setup.recipe.method).choice.compares
        self.places = _stored_places(setup, store, console) if compares else None

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
    return (LiveTeacher(setup), None) if store is None else (StoredLabels(setup, store, console), store)


def chosen_places(setup: Setup, indices: Sequence[int], outputs: Sequence[Sequence[TokenIds]]) -> list[list[int]]:
    """Returns the places, among the teacher's outputs of each source, of those that the method chooses, best first.

    Args:
        setup: the run.
        indices: the sources' positions in the corpus.
        outputs: the teacher's outputs of each source, best first.
    """
    choice, decode = resolve(setup.recipe.method).choice, setup.tokenizer.decode
    if not choice.compares:
        return [[0] for _ in outputs]
    texts = [[decode(list(map(int, tokens))) for tokens in of_source] for of_source in outputs]
    references = [decode(setup.train.targets[index].tolist()) for index in indices]
    return choice.choose(texts, references)


def _stored_places(setup: Setup, store: LabelStore, console: Console) -> NDArray[np.int16]:
    """Returns what ``chosen_places`` does for all sources: int16 [sources, most places], -1 where there are fewer."""
    rows: list[list[int]] = []
    starts = range(0, len(store), COMPARED_TOGETHER)
    with Bar(console, shown=not console.quiet) as bar:
        advance = bar.start("comparing hypotheses", len(starts))
        for start in starts:
            indices = range(start, min(start + COMPARED_TOGETHER, len(store)))
            outputs = [[one.tokens for one in store.hypotheses(index)] for index in indices]
            rows += chosen_places(setup, indices, outputs)
            advance()
    places = np.full((len(rows), max(map(len, rows))), -1, np.int16)
    for row, chosen in enumerate(rows):
        places[row, : len(chosen)] = chosen
    return places
