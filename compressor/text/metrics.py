"""Scores outputs against references, with the signatures of the metrics."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, Literal

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from compressor.errors import ConfigError, DataError

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_OTHERS_WITHOUT_SPACES = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff]")
"""Thai, Lao, Burmese, Khmer, Japanese kana."""


@dataclass(frozen=True)
class Scores:
    """Corpus scores, 0 to 100; None where a score does not apply to the task.

    Attributes:
        bleu: sacreBLEU, cased, on detokenized text, with the tokenizer of ``bleu_tokenizer``.
        chrf: chrF2.
        rouge1: ROUGE-1 F1, mean over outputs.
        rouge2: ROUGE-2 F1, mean over outputs.
        rouge_l: ROUGE-L F1, mean over outputs.
        signature: Settings and library versions that the numbers depend on.
    """

    bleu: float | None
    chrf: float | None
    rouge1: float | None
    rouge2: float | None
    rouge_l: float | None
    signature: str

    @property
    def selection(self) -> float:
        """The score that selects a checkpoint: BLEU, or ROUGE-1 F1 for summarization."""
        return float((self.bleu if self.bleu is not None else self.rouge1) or 0.0)

    @property
    def selection_metric(self) -> str:
        """Name of ``selection``."""
        return "BLEU" if self.bleu is not None else "ROUGE-1"

    @property
    def headline(self) -> float:
        """The main score of a task: BLEU, or ROUGE-L F1 for summarization."""
        return float((self.bleu if self.bleu is not None else self.rouge_l) or 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Returns the scores as a dictionary for JSON."""
        return asdict(self)


def score(
    task: Literal["translation", "summarization"] | str,
    hypotheses: Sequence[str],
    references: Sequence[str],
) -> Scores:
    """Scores outputs with the metrics of their task.

    Args:
        task: ``translation`` (BLEU, chrF) or ``summarization`` (ROUGE).
        hypotheses: Detokenized outputs.
        references: One reference for each output.

    Raises:
        DataError: there is nothing to score, or the counts differ.
        ConfigError: the task is unknown.
    """
    if len(hypotheses) != len(references):
        raise DataError(
            f"{len(hypotheses)} outputs but {len(references)} references: line n of both must belong together"
        )
    if not hypotheses:
        raise DataError("nothing to score: there are no outputs")
    if task == "translation":
        return _translation(hypotheses, references)
    if task == "summarization":
        return _summarization(hypotheses, references)
    raise ConfigError(f"task {task!r} has no scores: use translation or summarization")


def bleu_tokenizer(references: Iterable[str]) -> str:
    """Returns sacreBLEU's tokenizer for the script of the references.

    It is ``13a``, or, where most letters belong to a script without spaces between words, ``zh`` for Chinese and
    ``char`` for all others.
    """
    text = "".join(references)
    han, others = len(_HAN.findall(text)), len(_OTHERS_WITHOUT_SPACES.findall(text))
    if 2 * (han + others) <= sum(map(str.isalpha, text)):
        return "13a"
    return "char" if 20 * others > han else "zh"


def _translation(hypotheses: Sequence[str], references: Sequence[str]) -> Scores:
    """Returns BLEU and chrF with their signature."""
    # `force` silences a warning about outputs that look tokenized, which is common early in training.
    bleu, chrf = BLEU(tokenize=bleu_tokenizer(references), force=True), CHRF()
    bleu_score = bleu.corpus_score(hypotheses, [references]).score
    chrf_score = chrf.corpus_score(hypotheses, [references]).score
    signature = f"BLEU|{bleu.get_signature()} chrF2|{chrf.get_signature()}"
    return Scores(bleu_score, chrf_score, None, None, None, signature)


def _summarization(hypotheses: Sequence[str], references: Sequence[str]) -> Scores:
    """Returns ROUGE-1, ROUGE-2 and ROUGE-L, mean F1, with their signature."""
    from rouge_score.rouge_scorer import RougeScorer  # imports nltk, which is slow and needed here only

    names = ("rouge1", "rouge2", "rougeL")
    scorer = RougeScorer(names, use_stemmer=True)
    scores = [scorer.score(reference, output) for output, reference in zip(hypotheses, references, strict=True)]
    one, two, longest = (100 * sum(item[name].fmeasure for item in scores) / len(scores) for name in names)
    package = f"rouge-score-{version('rouge-score')}"
    signature = f"ROUGE|nrefs:1|case:lower|measure:f1|stem:porter|aggregate:mean|version:{package}"
    return Scores(None, None, one, two, longest, signature)
