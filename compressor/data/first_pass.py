"""The first pass of an augmented corpus, for methods whose teacher writes once, before training."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from compressor.data.augmented_pass import AugmentedPass
from compressor.data.token_cache import stored_corpus
from compressor.data.token_files import FORMAT, read_record, write_record, write_rows
from compressor.data.token_rows import TokenRows
from compressor.progress import Bar


def first_pass(
    sources: TokenRows, targets: TokenRows, augmentation: AugmentedPass, bar: Bar
) -> tuple[TokenRows, TokenRows]:
    """Returns the rows of the first pass, for all examples.

    Where the corpus is in files, so is its pass, beside it: made by the first run, read by the next ones.

    Args:
        sources: of the corpus.
        targets: of the corpus.
        augmentation: what is changed.
        bar: says what is read or made.

    Raises:
        DataError: a process ended.
        StorageError: the disk is full, or the folder cannot be written.
    """
    augmentation.progress = bar.count("augmenting")
    indices, corpus = np.arange(len(sources)), augmentation.corpus
    if corpus is None:
        return augmentation.rows(sources, targets, 0, indices)
    changes = augmentation.augmentation
    parts = {"format": FORMAT, "shares": changes.config.model_dump(mode="json"), "seed": changes.seed}
    record = read_record(corpus)
    digest = hashlib.sha256(json.dumps([record.fingerprint, parts], sort_keys=True).encode()).hexdigest()

    def make(folder: Path) -> None:
        write_rows(folder, *augmentation.rows(sources, targets, 0, indices))
        write_record(folder, record.model_copy(update={"fingerprint": digest}))

    stored = stored_corpus(corpus.with_name(f"{corpus.name}-{digest[:16]}"), digest, make, bar, "the first pass")
    return stored.sources, stored.targets
