"""Resampled scores against scores of the resamples written out."""

from __future__ import annotations

import numpy as np
import pytest
import sacrebleu

from benchmarks.quality.bootstrap import RESAMPLED, draw, interval, resampled_bleu
from compressor.text.metrics import score

REFERENCES = [
    "The cat sat on the mat.",
    "There is a dog in the old garden behind the house.",
    "She reads the newspaper every morning.",
    "We go home.",
    "It rained all day, and nobody went out.",
]
OUTPUTS = [
    "The cat sat on a mat.",
    "A dog is in the garden behind the old house.",
    "She reads the newspaper every morning.",
    "We are going to go home now.",
    "It rained for days and nobody left.",
]


@pytest.mark.parametrize("task", ["translation", "summarization"])
def test_resampled_scores_are_those_of_the_repeated_sentences(task: str) -> None:
    scores, draws = RESAMPLED[task](OUTPUTS, REFERENCES), draw(len(OUTPUTS))
    assert scores.shape == (1000,) and (draws.sum(axis=1) == len(OUTPUTS)).all()
    for resample in (0, 1, 500, 999):
        outputs, references = (
            [text for text, count in zip(texts, draws[resample], strict=True) for _ in range(count)]
            for texts in (OUTPUTS, REFERENCES)
        )
        assert scores[resample] == pytest.approx(score(task, outputs, references).headline)


def test_the_interval_is_like_sacrebleus() -> None:
    outputs, references = OUTPUTS * 20, REFERENCES * 20
    low, high = interval(resampled_bleu(outputs, references))
    peer = sacrebleu.BLEU().corpus_score(outputs, [references], n_bootstrap=1000)
    assert (low + high) / 2 == pytest.approx(peer._mean, abs=0.5)
    assert (high - low) / 2 == pytest.approx(peer._ci, rel=0.15)


def test_an_interval_leaves_out_a_fortieth_at_each_end() -> None:
    assert interval(np.arange(1001, dtype=np.float64)) == (25.0, 975.0)
