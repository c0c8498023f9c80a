"""Figures of the exposure bench: means by position, scores by length, shares of repetitive and hallucinated outputs."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure.result_file import Row
from benchmarks.quality.bootstrap import draw, interval
from benchmarks.quality.evaluate import quality
from benchmarks.quality.prefix_scores import PrefixScores

CONTEXTS = ("reference", "teacher", "own")
"""Who wrote the prefixes."""
NGRAM_SIZE, NGRAM_EXCESS = 4, 2
"""An output is repetitive if its most frequent n-gram of this size occurs so many times more often than its source's.

Raunak et al. 2021 (oscillatory hallucinations), with the numbers of Guerreiro et al. 2023.
"""
HALLUCINATION_QUANTILE = 0.01
"""An output is hallucinated if the teacher's mean log-probability a token is below this quantile of its own outputs'.

The sequence's log-probability is the best of the detectors that Guerreiro et al. 2023 compare, as good as those that
read references. Here the teacher scores the outputs of all students.
"""


def by_position(scores: Mapping[str, PrefixScores], least: int) -> list[Row]:
    """Returns for each position the number of examples, the mean divergence and the agreement, by kind of context.

    Args:
        scores: by kind of context.
        least: positions that fewer examples reach, in contexts of some kind, are left out.
    """
    size = 1 + max(int(one.position.max()) for one in scores.values())
    counts = {kind: np.bincount(one.position, minlength=size) for kind, one in scores.items()}
    reached = np.flatnonzero(np.min([*counts.values()], axis=0) >= least)
    rows: list[Row] = [{"position": int(place)} for place in reached]
    for kind, one in scores.items():
        divergence = np.bincount(one.position, weights=one.divergence, minlength=size)
        agreeing = np.bincount(one.position, weights=one.agrees, minlength=size)
        for row in rows:
            place = row["position"]
            row[kind] = {
                "examples": int(counts[kind][place]),
                "kl": round(float(divergence[place] / counts[kind][place]), 6),
                "agreement": round(float(agreeing[place] / counts[kind][place]), 6),
            }
    return rows


def means_of(positions: Sequence[Row]) -> Row:
    """Returns the means over the positions, each of which counts the same, and what own contexts have in excess.

    With no position the values mean nothing.
    """
    means: Row = {
        f"{kind}_{name}": round(sum(one[kind][name] for one in positions) / max(1, len(positions)), 6)
        for name in ("kl", "agreement")
        for kind in CONTEXTS
    }
    excess, reference = means["own_kl"] - means["reference_kl"], means["reference_kl"]
    return {
        "last_position": max((one["position"] for one in positions), default=None),
        **means,
        "excess": round(excess, 6),
        "excess_share": round(excess / reference, 6) if reference else None,
        "excess_over_teacher": round(means["own_kl"] - means["teacher_kl"], 6),
    }


def excess_intervals(scores: Mapping[str, PrefixScores], positions: Sequence[Row], examples: int) -> Row:
    """Returns 95% intervals of ``excess`` and ``excess_over_teacher``, by a bootstrap over examples.

    An example is drawn with its contexts of all kinds, so that what is hard in all of them cancels out.

    Args:
        scores: by kind of context.
        positions: those that count, of ``by_position``.
        examples: number of examples.
    """
    draws, places = draw(examples), [one["position"] for one in positions]
    means = {kind: _resampled_means(one, places, draws) for kind, one in scores.items()}
    return {
        name: interval(means["own"] - means[kind], digits=6)
        for name, kind in (("excess_ci95", "reference"), ("excess_over_teacher_ci95", "teacher"))
    }


def _resampled_means(scores: PrefixScores, places: Sequence[int], draws: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns the mean divergence over positions of each resample [resamples].

    Args:
        scores: of one kind of context.
        places: the positions.
        draws: [resamples, examples], how often each example was drawn.
    """
    shape = draws.shape[1], 1 + int(scores.position.max())
    divergence, reached = np.zeros(shape), np.zeros(shape)
    divergence[scores.example, scores.position] = scores.divergence
    reached[scores.example, scores.position] = 1
    counts = (draws @ reached[:, places]).clip(min=1)  # a resample may have no example left at a late position
    means: NDArray[np.float64] = (draws @ divergence[:, places] / counts).mean(axis=1)
    return means


def by_length(
    task: str,
    texts: Sequence[str],
    references: Sequence[str],
    lengths: Sequence[int],
    bounds: Sequence[int],
    least: int,
) -> list[Row]:
    """Returns the scores of the outputs in each group of examples whose references are about as long.

    Args:
        task: translation or summarization.
        texts: outputs.
        references: one for each.
        lengths: tokens of the references.
        bounds: the longest length of each group but the last.
        least: groups of fewer examples are left out.
    """
    ends = sorted(bounds)
    group = np.searchsorted(ends, lengths)
    names = [f"≤ {ends[0]}", *(f"{a + 1}-{b}" for a, b in itertools.pairwise(ends)), f"> {ends[-1]}"]
    rows: list[Row] = []
    for number, name in enumerate(names):
        chosen = np.flatnonzero(group == number).tolist()
        if len(chosen) >= least:
            scores = quality(task, [texts[place] for place in chosen], [references[place] for place in chosen])
            rows.append({"tokens": name, "examples": len(chosen), **scores})
    return rows


def repetition_rate(outputs: Sequence[Sequence[int]], sources: Sequence[Sequence[int]]) -> float:
    """Returns the share of outputs that repeat an n-gram more often than their source does, see ``NGRAM_EXCESS``."""
    repetitive = [
        _most_frequent(output) - _most_frequent(source) >= NGRAM_EXCESS
        for output, source in zip(outputs, sources, strict=True)
    ]
    return round(sum(repetitive) / len(repetitive), 6)


def hallucination_rate(means: NDArray[np.float64], of_teacher: NDArray[np.float64]) -> float:
    """Returns the share of outputs that the teacher finds less probable than nearly all of its own.

    Args:
        means: the teacher's mean log-probability a token of each output [examples].
        of_teacher: the same of the teacher's own outputs [examples]; see ``HALLUCINATION_QUANTILE``.
    """
    return round(float((means < np.quantile(of_teacher, HALLUCINATION_QUANTILE)).mean()), 6)


def _most_frequent(tokens: Sequence[int]) -> int:
    """Returns how often the most frequent n-gram of ``NGRAM_SIZE`` occurs; 0 where there is none."""
    ngrams = zip(*(tokens[start:] for start in range(NGRAM_SIZE)), strict=False)
    return max(Counter(ngrams).values(), default=0)
