"""What a lexical shortlist is learned from: the tokens that a teacher writes, and the source tokens that call for them.

Which source token a target token comes from is learned by IBM Model 1 (Brown et al. 1993, The Mathematics of
Statistical Machine Translation, section 4.1). Two rounds of expectation maximisation are enough to rank: with more,
what is rare is explained away, and more outputs would miss a token.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from compressor.data.readers import read_text
from compressor.decoding.constraints import Constraints
from compressor.decoding.shortlist import Shortlist
from compressor.distillation.signals import recorded_pairs
from compressor.errors import ConfigError, ExportError
from compressor.text.tokenizer import Tokenizer

FREQUENT, LIKELY = 400, 100
"""Tokens of every source, and tokens for each token of a source, itself among them."""
ROUNDS = 2
MOST_CELLS = 30_000_000
"""Pairs of a source and a target token that are looked at: some 2 GB of memory."""

Pair = tuple[Sequence[int], Sequence[int]]
"""Token ids of a source, and of the teacher's output."""
Array = np.ndarray[Any, Any]


class LexicalTable(NamedTuple):
    """Tokens that may be written."""

    always: Array
    """int64 [n]: whatever the source, most frequent first."""
    likely: Array
    """int64 [vocab, most]: with each source token, itself first; ``always[0]`` where there are no more."""
    pairs: int
    """Learned from so many."""


def teacher_pairs(run_dir: Path, tokenizer: Tokenizer, source: Path | None, target: Path | None) -> Iterator[Pair]:
    """Sources and what the teacher wrote for them: from two files, by default from the run that was trained on them.

    Raises:
        ConfigError: one file is given without the other.
        DataError: one cannot be read, or they do not have as many lines.
        ExportError: there are no files, and the run has no teacher's outputs.
    """
    if bool(source) != bool(target):
        raise ConfigError(
            "{shortlist_source} and {shortlist_target} go together", options=["shortlist_source", "shortlist_target"]
        )
    if source and target:
        for one, other in read_text(source, target):
            yield tokenizer.encode_source(one), tokenizer.encode_target(other or "")
        return
    pairs = recorded_pairs(run_dir)
    first = next(pairs, None)
    if first is None:
        raise ExportError(
            f"{run_dir}: a shortlist is learned from what the teacher writes, and the run has no outputs of a teacher: "
            "give {shortlist_source} and {shortlist_target} (its translations)",
            options=["shortlist_source", "shortlist_target"],
        )
    yield first
    yield from pairs


def learn(
    pairs: Iterable[Pair], vocab_size: int, eos_id: int, frequent: int = FREQUENT, likely: int = LIKELY
) -> LexicalTable:
    """Ranks target tokens: all of them by how often they are written, and those of each source token.

    Args:
        pairs: Token ids. Of very many, as many are looked at as ``MOST_CELLS`` allows, evenly.
        vocab_size: Of both sides.
        eos_id: May always be written.
        frequent: How many tokens may always be written.
        likely: How many tokens each source token has.

    Raises:
        ExportError: there are no pairs.
    """
    known = [(np.unique(source), np.asarray(target, np.int64)) for source, target in pairs]
    if not known:
        raise ExportError("a shortlist is learned from sources and what the teacher writes for them: there are none")
    written = np.bincount(np.concatenate([target for _, target in known]), minlength=vocab_size)
    written[eos_id] = written.sum() + 1
    always = np.argsort(-written, kind="stable")[:frequent]
    cells = sum(len(source) * len(target) for source, target in known)
    source, target, expected = _model_1(known[:: -(-cells // MOST_CELLS)], vocab_size)
    other = ~np.isin(target, always) & (source != target)
    order = np.lexsort((-expected[other], source[other]))
    source, target = source[other][order], target[other][order]
    rank = 1 + np.arange(len(source)) - np.searchsorted(source, source)
    table = np.full((vocab_size, likely), always[0], np.int64)
    table[:, 0] = np.arange(vocab_size)  # names and numbers are copied
    table[source[rank < likely], rank[rank < likely]] = target[rank < likely]
    return LexicalTable(always, table, len(known))


def _model_1(pairs: Sequence[tuple[Array, Array]], vocab_size: int) -> tuple[Array, Array, Array]:
    """Source token, target token, and how often the one is expected to have become the other, three vectors."""
    keys, groups, first = [], [], 0
    for source, target in pairs:
        target = np.unique(target)
        keys.append((source[:, None] * vocab_size + target).ravel())
        groups.append(np.tile(np.arange(first, first + len(target)), len(source)))
        first += len(target)
    group = np.concatenate(groups)
    together, cell = np.unique(np.concatenate(keys), return_inverse=True)
    source, target = together // vocab_size, together % vocab_size
    probability = np.ones(len(together))
    for _ in range(ROUNDS):
        share = probability[cell]
        share /= np.bincount(group, share)[group]
        expected = np.bincount(cell, share)
        probability = expected / np.bincount(source, expected)[source]
    return source, target, expected


def shortlist(table: LexicalTable, constraints: Constraints) -> Shortlist:
    """The module over the columns that a search has; tokens that have no column are left out."""
    columns, total = constraints.columns, constraints.eos.shape[0]
    always = columns[torch.from_numpy(table.always)]
    always = always[always < total]
    likely = columns[torch.from_numpy(table.likely)]
    return Shortlist(always, torch.where(likely < total, likely, always[0]), total)
