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
    hypothesis_count,
    needs_labels,
    write_labels,
)
from compressor.distillation.methods import resolve
from compressor.distillation.setup import Setup

COMPARED_TOGETHER = 10_000
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
        assert setup.teacher is not None and setup.recipe.teacher is not None  # the recipe's validation
        sources = [setup.train.sources[index].tolist() for index in indices]
        n_best = best_outputs(setup.teacher, setup, sources, setup.recipe.teacher.num_beams, hypothesis_count(setup))
        chosen = chosen_outputs(setup, indices, [cut_outputs(setup, outputs) for outputs in n_best])
        return [outputs[visit % len(outputs)] for outputs, visit in zip(chosen, visits, strict=True)]

    def logits(self, batch: Batch, contexts: Contexts, rows: Tensor, tokens: Tensor) -> Tensor:
        """See Signal."""
        teacher = self.setup.teacher
        assert teacher is not None  # the recipe's validation
        source, source_mask = batch.source[rows], batch.source_mask[rows]
        return teacher.logits(source, source_mask, contexts.tokens[rows], contexts.loss_mask[rows], tokens)


class RecordedOutputs(LiveTeacher):
    """Signal whose outputs were written before training; logits are those of the model in memory."""

    def __init__(self, setup: Setup, chosen: Sequence[list[list[int]]]) -> None:
        """``chosen``: of all sources, see ``chosen_outputs``."""
        super().__init__(setup)
        most = max(map(len, chosen))
        self.turns = [TokenRows(outputs[turn % len(outputs)] for outputs in chosen) for turn in range(most)]

    def outputs(self, indices: Sequence[int], visits: Sequence[int]) -> list[TokenIds]:
        """See Signal."""
        return [self.turns[visit % len(self.turns)][index] for index, visit in zip(indices, visits, strict=True)]


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
    chosen: list[list[list[int]]] = []
    for start in range(0, len(labels.outputs), COMPARED_TOGETHER):
        indices = range(start, min(start + COMPARED_TOGETHER, len(labels.outputs)))
        chosen += chosen_outputs(setup, indices, [labels.outputs[index] for index in indices])
    return RecordedOutputs(setup, chosen), labels


def chosen_outputs(setup: Setup, indices: Sequence[int], n_best: Sequence[list[list[int]]]) -> list[list[list[int]]]:
    """Returns the outputs of each source that the method chooses among the teacher's, best first.

    Args:
        setup: the run.
        indices: the sources' positions in the corpus.
        n_best: the teacher's outputs of each source, best first.
    """
    choice, decode = resolve(setup.recipe.method).choice, setup.tokenizer.decode
    if not choice.compares:
        return [[outputs[0]] for outputs in n_best]
    texts = [[decode(tokens) for tokens in outputs] for outputs in n_best]
    references = [decode(setup.train.targets[index].tolist()) for index in indices]
    places = choice.choose(texts, references)
    return [[outputs[place] for place in of_source] for outputs, of_source in zip(n_best, places, strict=True)]
