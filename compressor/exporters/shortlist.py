"""Learns a lexical shortlist: the target tokens that are likely, given the tokens of a source.

The probability that a source token becomes a target token is estimated by IBM Model 1 (Brown et al. 1993, The
Mathematics of Statistical Machine Translation, section 4.1). Two rounds of expectation maximisation rank best: more
rounds explain rare tokens away, and more outputs would miss a token.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from compressor.batching import TokenIds
from compressor.data.readers import read_text
from compressor.decoding.shortlist import Array, LexicalTable
from compressor.distillation.label_store import recorded_pairs
from compressor.errors import ConfigError, ExportError
from compressor.run_folder import LABELS_FOLDER, read_recipe
from compressor.text.tokenizer import Tokenizer

FREQUENT, LIKELY = 400, 100
"""Tokens allowed for every source, and tokens allowed by each source token, itself included."""
ROUNDS = 2
"""Rounds of expectation maximisation."""
MAX_TOKEN_PAIRS = 30_000_000
"""Limit on the pairs of a source and a target token that the estimate uses: some 2 GB of memory."""

Pair = tuple[TokenIds, TokenIds]
"""Token ids of a source and of the teacher's output for it."""


def teacher_pairs(run_dir: Path, tokenizer: Tokenizer, source: Path | None, target: Path | None) -> Iterator[Pair]:
    """Yields sources with the teacher's outputs, from two files; without them from the run's labels.

    Args:
        run_dir: The run folder.
        tokenizer: The run's tokenizer.
        source: File of sources, one a line.
        target: File of the teacher's outputs, one a line.

    Raises:
        ConfigError: one file is given without the other.
        DataError: a file cannot be read, or the two differ in their number of lines.
        ExportError: no files are given, and the run has no outputs of a teacher.
    """
    if bool(source) != bool(target):
        raise ConfigError(
            "{shortlist_source} and {shortlist_target} go together", options=["shortlist_source", "shortlist_target"]
        )
    if source and target:
        for source_text, target_text in read_text(source, target):
            yield tokenizer.encode_source(source_text), tokenizer.encode_target(target_text or "")
        return
    recipe = read_recipe(run_dir)
    labels = recipe.teacher.labels if recipe is not None and recipe.teacher is not None else None
    pairs = recorded_pairs(Path(labels) if labels else run_dir / LABELS_FOLDER)
    first = next(pairs, None)
    if first is None:
        raise ExportError(
            f"{run_dir}: a shortlist is learned from what the teacher writes, and the run has no outputs of a teacher: "
            "give {shortlist_source} and {shortlist_target} (its translations)",
            options=["shortlist_source", "shortlist_target"],
        )
    yield first
    yield from pairs


def learn_table(
    pairs: Iterable[Pair], vocab_size: int, eos_id: int, frequent: int = FREQUENT, likely: int = LIKELY
) -> LexicalTable:
    """Learns which target tokens are frequent, and which are likely given each source token.

    Args:
        pairs: Token ids. Of very many pairs, an evenly spaced part is used, as many as ``MAX_TOKEN_PAIRS`` allows.
        vocab_size: Size of the vocabulary of both sides.
        eos_id: End of sentence, which is allowed for every source.
        frequent: Number of tokens allowed for every source.
        likely: Number of tokens allowed by each source token.

    Raises:
        ExportError: there are no pairs.
    """
    arrays = [(np.unique(source), np.asarray(target, np.int64)) for source, target in pairs]
    if not arrays:
        raise ExportError("a shortlist is learned from sources and what the teacher writes for them: there are none")
    frequency = np.bincount(np.concatenate([target for _, target in arrays]), minlength=vocab_size)
    frequency[eos_id] = frequency.sum() + 1
    always = np.argsort(-frequency, kind="stable")[:frequent]
    token_pairs = sum(len(source) * len(target) for source, target in arrays)
    source, target, expected = _ibm_model_1(arrays[:: -(-token_pairs // MAX_TOKEN_PAIRS)], vocab_size)
    candidates = ~np.isin(target, always) & (source != target)
    order = np.lexsort((-expected[candidates], source[candidates]))
    source, target = source[candidates][order], target[candidates][order]
    rank = 1 + np.arange(len(source)) - np.searchsorted(source, source)
    table = np.full((vocab_size, likely), always[0], np.int64)
    table[:, 0] = np.arange(vocab_size)  # names and numbers are copied
    table[source[rank < likely], rank[rank < likely]] = target[rank < likely]
    return LexicalTable(always, table, len(arrays))


def _ibm_model_1(pairs: Sequence[tuple[Array, Array]], vocab_size: int) -> tuple[Array, Array, Array]:
    """Estimates IBM Model 1.

    Args:
        pairs: Distinct source tokens and target tokens of each sentence pair.
        vocab_size: Size of the vocabulary.

    Returns:
        Three vectors with an entry for each pair of tokens that occur together: the source token, the target token, and
        the expected number of times that the one is translated as the other.
    """
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
