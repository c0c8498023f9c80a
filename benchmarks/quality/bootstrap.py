"""Confidence intervals of means and corpus scores by resampling the test set (Koehn 2004), for one model, or for two.

Two models are compared on the same resamples (paired bootstrap), so that what is easy or hard for both cancels out.

Shapes: sentences of the test set, resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU

from compressor.text.metrics import bleu_tokenizer

RESAMPLES, SEED = 1000, 12345
COVERED = 95.0
"""Per cent of the resamples whose score is in an interval."""


class Interval(NamedTuple):
    """Ends of an interval that covers 95% of the resamples."""

    low: float
    high: float


def interval(scores: NDArray[np.float64], digits: int = 2) -> Interval:
    """Returns the interval of scores, or of differences of scores, [resamples], rounded to so many decimals."""
    low, high = np.percentile(scores, [(100 - COVERED) / 2, (100 + COVERED) / 2])
    return Interval(round(float(low), digits), round(float(high), digits))


def draw(sentences: int) -> NDArray[np.int64]:
    """Returns how often each sentence is in each resample, [resamples, sentences]; always the same for a size."""
    random = np.random.default_rng(SEED)
    return random.multinomial(sentences, np.full(sentences, 1 / sentences), size=RESAMPLES)


def resampled_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
    """Returns corpus BLEU of each resample, [resamples], with sacreBLEU's counts, tokens and smoothing."""
    # of a sentence's result only the counts are read
    metric = BLEU(effective_order=True, tokenize=bleu_tokenizer(references))
    counts = []
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        one = metric.sentence_score(hypothesis, [reference])
        counts.append([one.sys_len, one.ref_len, *one.counts, *one.totals])
    order = BLEU().max_ngram_order
    sums = draw(len(counts)) @ np.array(counts, dtype=np.int64)
    scores = [
        BLEU.compute_bleu(
            row[2 : 2 + order].tolist(), row[2 + order :].tolist(), int(row[0]), int(row[1]), smooth_method="exp"
        ).score
        for row in sums
    ]
    return np.array(scores)


def resampled_rouge_l(hypotheses: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
    """Returns mean ROUGE-L F1 of each resample, 0 to 100, [resamples]."""
    from rouge_score.rouge_scorer import RougeScorer  # imports nltk, which is slow and needed here only

    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    scores = np.array(
        [
            100 * scorer.score(reference, hypothesis)["rougeL"].fmeasure
            for hypothesis, reference in zip(hypotheses, references, strict=True)
        ]
    )
    means: NDArray[np.float64] = draw(len(scores)) @ scores / len(scores)
    return means


RESAMPLED = {"translation": resampled_bleu, "summarization": resampled_rouge_l}
"""Task to the resamples of its headline score."""
