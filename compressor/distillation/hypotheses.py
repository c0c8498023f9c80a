"""Which of the teacher's hypotheses of a source the student learns from.

Hypotheses are compared with a reference by sentence BLEU (Kim & Rush 2016), with one another by chrF (Popović 2015).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from fastchrf import pairwise_chrf
from sacrebleu.metrics.bleu import BLEU

from compressor.text.metrics import bleu_tokenizer


class HypothesisChoice(ABC):
    """Chooses among the n-best hypotheses of each source."""

    @abstractmethod
    def choose(self, hypotheses: Sequence[Sequence[str]], references: Sequence[str]) -> list[list[int]]:
        """Returns the places of the chosen hypotheses of each source, best first.

        Args:
            hypotheses: texts, the teacher's best first; at least one a source.
            references: one a source.
        """


@dataclass(frozen=True)
class NearestToReference(HypothesisChoice):
    """The hypothesis of the greatest BLEU against the reference (Kim & Rush 2016, section 3.3).

    BLEU of a sentence is that of sacreBLEU: smoothed (Chen & Cherry 2014, method 3), over the orders that it has.
    """

    def choose(self, hypotheses: Sequence[Sequence[str]], references: Sequence[str]) -> list[list[int]]:
        """See HypothesisChoice."""
        bleu = BLEU(effective_order=True, tokenize=bleu_tokenizer(references))
        return [
            _greatest([bleu.sentence_score(text, [reference]).score for text in texts], 1)
            for texts, reference in zip(hypotheses, references, strict=True)
        ]


@dataclass(frozen=True)
class MostAgreed(HypothesisChoice):
    """The hypotheses of the greatest mean chrF against all others: minimum Bayes risk (Wang et al. 2024, MBR-n)."""

    count: int = 1
    """Hypotheses that are chosen, where there are as many."""

    def choose(self, hypotheses: Sequence[Sequence[str]], references: Sequence[str]) -> list[list[int]]:
        """See HypothesisChoice."""
        texts = [list(of_source) for of_source in hypotheses]
        chosen = []
        for scores in pairwise_chrf(texts, texts):
            means = [sum(row) - row[place] for place, row in enumerate(scores)]  # the others are equally many for all
            chosen.append(_greatest(means, self.count))
        return chosen


def _greatest(scores: Sequence[float], count: int) -> list[int]:
    """Returns the places of the greatest scores, greatest first; of equal ones the earlier comes first."""
    return sorted(range(len(scores)), key=lambda place: -scores[place])[:count]
