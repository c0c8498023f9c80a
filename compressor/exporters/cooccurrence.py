"""What a lexical shortlist is learned from: which tokens a teacher writes, and beside which source tokens."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from compressor.errors import ExportError
from compressor.models.constraints import Constraints
from compressor.models.shortlist import Shortlist

FREQUENT, LIKELY = 200, 50
"""Tokens of every source, and tokens for each token of a source."""
_CHUNK = 20_000
"""Pairs that are counted at a time."""

Pair = tuple[Sequence[int], Sequence[int]]
"""Token ids of a source, and of the teacher's output."""
Array = np.ndarray[Any, Any]


class Cooccurrence(NamedTuple):
    """Tokens that may be written."""

    always: Array
    """int64 [n]: whatever the source, most frequent first."""
    likely: Array
    """int64 [vocab, most]: with each source token, likeliest first; ``always[0]`` where there are no more."""
    pairs: int
    """Learned from so many."""


def learn(pairs: Iterable[Pair], vocab_size: int, eos_id: int, frequent: int = FREQUENT, likely: int = LIKELY) -> Cooccurrence:
    """Counts tokens, and pairs of source and target tokens; those that stand beside a token most often are its likely.

    Args:
        pairs: Token ids.
        vocab_size: Of both sides.
        eos_id: May always be written.
        frequent: How many tokens may always be written.
        likely: How many tokens more each source token has.

    Raises:
        ExportError: there are no pairs.
    """
    tokens, seen, number = np.zeros(vocab_size, np.int64), np.zeros(vocab_size, np.int64), 0
    together = np.zeros((0, 2), np.int64)  # source * vocab_size + target, and how often
    remaining = iter(pairs)
    while chunk := list(itertools.islice(remaining, _CHUNK)):
        number += len(chunk)
        keys = [_keys(np.unique(source), np.unique(target), vocab_size) for source, target in chunk]
        together = _add(together, np.concatenate(keys))
        tokens += np.bincount(np.concatenate([np.asarray(target, np.int64) for _, target in chunk]), minlength=vocab_size)
        seen += np.bincount(np.concatenate([np.unique(source) for source, _ in chunk]), minlength=vocab_size)
    if not number:
        raise ExportError("a shortlist is learned from sources and what the teacher writes for them: there are none")
    tokens[eos_id] = tokens.sum() + 1
    always = np.argsort(-tokens, kind="stable")[:frequent]
    return Cooccurrence(always, _likely(together, always, vocab_size, likely), number)


def _keys(source: Array, target: Array, vocab_size: int) -> Array:
    return (source[:, None] * vocab_size + target[None, :]).ravel()


def _add(together: Array, keys: Array) -> Array:
    """Adds keys, each of which counts once."""
    found, counts = np.unique(keys, return_counts=True)
    merged, places = np.unique(np.concatenate([together[:, 0], found]), return_inverse=True)
    sums = np.bincount(places, weights=np.concatenate([together[:, 1], counts])).astype(np.int64)
    return np.stack([merged, sums], axis=1)


def _likely(together: Array, always: Array, vocab_size: int, most: int) -> Array:
    """The ``most`` tokens that stand beside each source token most often, those of ``always`` left out."""
    source, target = together[:, 0] // vocab_size, together[:, 0] % vocab_size
    other = ~np.isin(target, always)
    source, target, counts = source[other], target[other], together[other, 1]
    order = np.lexsort((-counts, source))
    source, target = source[order], target[order]
    rank = np.arange(len(source)) - np.searchsorted(source, source)
    table = np.full((vocab_size, most), always[0], np.int64)
    table[source[rank < most], rank[rank < most]] = target[rank < most]
    return table


def shortlist(learned: Cooccurrence, constraints: Constraints) -> Shortlist:
    """The module over the columns that a search has; tokens that have no column are left out."""
    columns, total = constraints.columns, constraints.eos.shape[0]
    always = columns[torch.from_numpy(learned.always)]
    always = always[always < total]
    likely = columns[torch.from_numpy(learned.likely)]
    return Shortlist(always, torch.where(likely < total, likely, always[0]), total)
