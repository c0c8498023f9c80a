"""Generates the embedded corpus: German-English pairs, and reports with headlines.

The split of a source is decided by the hash of its text, so train, dev and test never share a source, for any seeds
and sizes.
"""

from __future__ import annotations

import hashlib
from random import Random
from typing import Literal

from compressor.data.examples import Example, source_key
from compressor.data.synthetic.reports import report_pair
from compressor.data.synthetic.sentences import sentence_pair
from compressor.errors import DataError

Split = Literal["train", "dev", "test"]

MAX_REJECTED = 2000  # rejected draws in a row before a split counts as exhausted


def generate(task: Literal["translation", "summarization"], split: Split, size: int, seed: int = 0) -> list[Example]:
    """Generates examples; the same arguments give the same examples on every machine.

    Args:
        task: ``translation`` (German to English) or ``summarization`` (an English report to its headline).
        split: Sources of one split never occur in another.
        size: Number of examples, all with different sources.
        seed: A different seed draws different examples of the same split.

    Raises:
        DataError: the grammar has no ``size`` distinct sources.
    """
    draw = sentence_pair if task == "translation" else report_pair
    rng = Random(f"{task} {split} {seed}")
    seen: set[str] = set()
    examples: list[Example] = []
    rejected = 0
    while len(examples) < size:
        example = Example(*draw(rng))
        key = source_key(example.source)
        if split_of(example.source) != split or key in seen:
            rejected += 1
            if rejected > MAX_REJECTED:
                raise DataError(f"the synthetic {task} corpus has no {size} distinct {split} sources: ask for fewer")
            continue
        rejected = 0
        seen.add(key)
        examples.append(example)
    return examples


def split_of(source: str) -> Split:
    """The split of a source, by a hash that ignores case and punctuation; dev and test get a tenth each."""
    bucket = hashlib.sha256(source_key(source).encode()).digest()[0] % 10
    return "dev" if bucket == 0 else "test" if bucket == 1 else "train"
