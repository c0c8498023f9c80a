"""The augmented rows of a part of a pass, made on all processors where the corpus is in files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from compressor.data.augmentation import Augmentation, Replacements, replaced_rows
from compressor.data.augmentation_worker import AugmentRequest
from compressor.data.token_rows import IntArray, TokenRows
from compressor.data.worker_processes import WorkerProcesses
from compressor.processors import available_cpus
from compressor.text.tokenizer import Tokenizer

FEW = 20_000
"""Changed examples that are made here: starting processes takes as long."""

PART = 16_384
"""Examples that are looked at together."""


def processors() -> int:
    """Returns how many processors this process may use beside the others that ``torchrun`` started here."""
    return max(1, available_cpus() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


class AugmentedPass:
    """Makes the rows of a pass, or of a part of it.

    Attributes:
        progress: called with the number of examples looked at, and of all that are asked for.

    Args:
        augmentation: what is changed.
        tokenizer: that of the augmentation, for the processes.
        corpus: folder of the tokenized corpus; None: it is in memory alone, and this process does the work.
    """

    def __init__(self, augmentation: Augmentation, tokenizer: Tokenizer, corpus: Path | None) -> None:
        self.augmentation, self.tokenizer, self.corpus = augmentation, tokenizer, corpus
        self.progress: Callable[[int, int], object] = lambda done, total: None

    def rows(
        self, sources: TokenRows, targets: TokenRows, visit: int, indices: IntArray
    ) -> tuple[TokenRows, TokenRows]:
        """Returns sources and targets; row n belongs to example n.

        Args:
            sources: of the corpus.
            targets: of the corpus.
            visit: the pass, from 0.
            indices: the examples that this pass may change; rows of others are those of the corpus.

        Raises:
            DataError: a process ended.
        """
        parts = [indices[start : start + PART] for start in range(0, len(indices), PART)]
        share = sum(self.augmentation.config.shares().values())
        made: Iterator[Replacements]
        if self.corpus is None or processors() == 1 or share * len(indices) <= FEW:
            made = (self.augmentation.replacements(sources, targets, visit, part) for part in parts)
        else:
            made = self._in_processes(self.corpus, parts, visit)
        return replaced_rows(sources, targets, self._counted(made, parts))

    def _in_processes(self, corpus: Path, parts: list[IntArray], visit: int) -> Iterator[Replacements]:
        """Yields what each part replaces, in order. Raises DataError if a process ended."""
        one = self.augmentation
        requests = (AugmentRequest(one.config, one.data, one.seed, tuple(one.first_ids), visit, part) for part in parts)
        with tempfile.TemporaryDirectory() as folder:
            self.tokenizer.save(Path(folder))
            arguments = [folder, str(corpus.resolve())]
            with WorkerProcesses("compressor.data.augmentation_worker", arguments, processors()) as workers:
                yield from workers.answers(requests)

    def _counted(self, made: Iterator[Replacements], parts: list[IntArray]) -> Iterator[Replacements]:
        done, total = 0, sum(map(len, parts))
        self.progress(done, total)
        for replaced, part in zip(made, parts, strict=True):
            done += len(part)
            self.progress(done, total)
            yield replaced
