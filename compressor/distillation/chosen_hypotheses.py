"""The hypotheses that a method chooses of each source: compared once, and stored beside the labels.

::

    LABELS/chosen-FINGERPRINT.npy    int16 [sources, most]: places of the chosen ones, best first, then -1

To compare the hypotheses of a million sources takes minutes. The fingerprint is a digest of all that the choice depends
on. The file is made under a lock, so that of several processes one makes it, and is mapped into memory.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compressor.data.token_cache import digest_of
from compressor.distillation.hypotheses import HypothesisChoice
from compressor.distillation.label_store import LabelStore
from compressor.distillation.methods import resolve
from compressor.distillation.setup import Setup
from compressor.files import storage_errors, write_atomic
from compressor.locks import hold
from compressor.progress import Bar

Places = NDArray[np.int16]

FORMAT = 1
"""Raised when the choice or the file changes, so that older files are not read."""

COMPARED_TOGETHER = 2_000
"""Sources whose hypotheses are texts in memory at a time."""

LIBRARIES = ("fastchrf", "sacrebleu")


def chosen_hypotheses(setup: Setup, store: LabelStore, spare: Path, bar: Bar) -> Places | None:
    """Returns the places of the hypotheses that the method chooses of each source; None if it takes the best.

    Args:
        setup: Corpus, tokenizer and method.
        store: The hypotheses; the result is stored in its folder.
        spare: Where it is stored if that folder cannot be written.
        bar: Shows the step, and says where the result is.

    Returns:
        int16 [sources, most chosen ones of a source], best first, -1 where there are fewer.

    Raises:
        StorageError: the disk is full.
    """
    choice = resolve(setup.recipe.method).choice
    if choice is None:
        return None
    name = f"chosen-{_fingerprint(setup, store, choice)[:16]}.npy"
    folders = [store.folder] if os.access(store.folder, os.W_OK) else [store.folder, spare]
    for folder in folders:
        if (places := _load(folder / name, store)) is not None:
            return places
    path = folders[-1] / name
    with storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    with hold(path.with_suffix(".lock"), lambda pid: bar.say(f"process {pid} is comparing hypotheses; waiting")):
        if (places := _load(path, store)) is not None:
            return places
        start = time.monotonic()
        content = io.BytesIO()
        np.save(content, _choose(setup, store, choice, bar))
        write_atomic(path, content.getvalue())
    bar.say(f"hypotheses compared in {time.monotonic() - start:.0f} s; the choice is in {path}")
    places = _load(path, store)
    assert places is not None  # it was just written
    return places


def _fingerprint(setup: Setup, store: LabelStore, choice: HypothesisChoice) -> str:
    """Returns a digest, in hexadecimal, of all that the choice depends on."""
    parts = {
        "format": FORMAT,
        "libraries": [version(name) for name in LIBRARIES],
        "choice": repr(choice),
        "compared_together": COMPARED_TOGETHER,
        "labels": store.digests,
        "references": setup.train.targets.sha256(),
        "tokenizer": digest_of(setup.tokenizer),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _load(path: Path, store: LabelStore) -> Places | None:
    """Returns the places in a file, mapped into memory; None if it is missing or damaged."""
    try:
        places: Places = np.asarray(np.load(path, mmap_mode="r"))  # rows of class np.memmap take longer to make
    except (OSError, ValueError, EOFError):
        return None
    whole = places.dtype == np.int16 and places.ndim == 2 and len(places) == len(store) and places.shape[1] > 0
    if not whole or places[:, 0].min() < 0 or places.min() < -1 or places.max() >= store.record.num_hypotheses:
        return None
    return places


def _choose(setup: Setup, store: LabelStore, choice: HypothesisChoice, bar: Bar) -> Places:
    """Returns the places, see ``chosen_hypotheses``."""
    decode, targets = setup.tokenizer.decode, setup.train.targets
    rows: list[Sequence[int]] = []
    starts = range(0, len(store), COMPARED_TOGETHER)
    advance = bar.start("comparing hypotheses", len(starts))
    for start in starts:
        indices = range(start, min(start + COMPARED_TOGETHER, len(store)))
        texts = [[decode(list(map(int, one.tokens))) for one in store.hypotheses(index)] for index in indices]
        rows += choice.choose(texts, [decode(targets[index].tolist()) for index in indices])
        advance()
    places = np.full((len(rows), max(map(len, rows))), -1, np.int16)
    for row, chosen in enumerate(rows):
        places[row, : len(chosen)] = chosen
    return places
