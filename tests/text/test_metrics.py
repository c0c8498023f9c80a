"""Scores against the libraries called directly, and against counts by hand."""

from __future__ import annotations

import json

import pytest
import sacrebleu

from compressor.errors import ConfigError, DataError
from compressor.text.metrics import score

OUTPUTS = ["The cat sat on the mat.", "There is a dog in our garden !", ""]
REFERENCES = ["The cat sat on a mat.", "There is a dog in the garden.", "It rains."]


def test_translation_scores_match_sacrebleu() -> None:
    scores = score("translation", OUTPUTS, REFERENCES)
    assert scores.bleu == pytest.approx(sacrebleu.corpus_bleu(OUTPUTS, [REFERENCES]).score)
    assert scores.chrf == pytest.approx(sacrebleu.corpus_chrf(OUTPUTS, [REFERENCES]).score)
    assert (scores.rouge1, scores.rouge2, scores.rouge_l) == (None, None, None)
    assert scores.selection == scores.bleu


def test_bleu_is_case_sensitive() -> None:
    lower = score("translation", [text.lower() for text in REFERENCES], REFERENCES).bleu
    assert lower is not None and lower < 100
    assert score("translation", REFERENCES, REFERENCES).bleu == pytest.approx(100)


def test_signatures_name_settings_and_versions() -> None:
    translation = score("translation", OUTPUTS, REFERENCES).signature
    assert translation.startswith("BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert "chrF2|nrefs:1|case:mixed" in translation
    assert sacrebleu.__version__ in translation
    summarization = score("summarization", OUTPUTS, REFERENCES).signature
    assert "measure:f1|stem:porter|aggregate:mean|version:rouge-score-" in summarization


@pytest.mark.parametrize(
    ("references", "expected"),
    [
        (["Zwei Männer lesen.", "東京 is a city."], "13a"),
        (["两个男人在看书。", "他说:“Linux 很好。”"], "zh"),
        (["二人の男性が本を読んでいる。"], "char"),
        (["ผู้ชายสองคนกำลังอ่านหนังสือ"], "char"),
        ([""], "13a"),
    ],
)
def test_bleu_splits_text_as_its_script_needs(references: list[str], expected: str) -> None:
    assert f"tok:{expected}|" in score("translation", references, references).signature


def test_rouge_matches_counts_by_hand() -> None:
    """Output: a b c d, reference: a c x. Second pair shares nothing; scores are means over outputs."""
    scores = score("summarization", ["alpha beta gamma delta", "one"], ["alpha gamma xi", "two"])
    # unigrams: 2 of 4 and 2 of 3 -> F1 4/7; no bigram; longest common subsequence 2 -> the same F1
    assert scores.rouge1 == pytest.approx(100 * (4 / 7) / 2)
    assert scores.rouge2 == 0
    assert scores.rouge_l == pytest.approx(100 * (4 / 7) / 2)
    assert (scores.bleu, scores.chrf) == (None, None)
    assert scores.selection == scores.rouge1


def test_rouge_l_depends_on_order_and_stems() -> None:
    scores = score("summarization", ["dogs chased a cat"], ["a cat chases dog"])
    assert scores.rouge1 == pytest.approx(100)
    assert scores.rouge_l == pytest.approx(50)  # "a cat": 2 of 4 on both sides
    assert scores.rouge2 == pytest.approx(100 / 3)  # "a cat": 1 of 3 on both sides


def test_scores_are_serializable() -> None:
    stored = json.loads(json.dumps(score("translation", OUTPUTS, REFERENCES).to_dict()))
    assert set(stored) == {"bleu", "chrf", "rouge1", "rouge2", "rouge_l", "signature"}


@pytest.mark.parametrize(
    ("task", "outputs", "error", "message"),
    [
        ("translation", ["a"], DataError, "1 outputs but 3 references"),
        ("parsing", OUTPUTS, ConfigError, "task 'parsing' has no scores"),
    ],
)
def test_invalid_input_is_refused(task: str, outputs: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        score(task, outputs, REFERENCES)


def test_empty_output_list_is_refused() -> None:
    with pytest.raises(DataError, match="nothing to score"):
        score("translation", [], [])
