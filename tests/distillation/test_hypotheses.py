"""The choice among the teacher's hypotheses, by BLEU written out and sacreBLEU's chrF; n-best outputs in a run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from sacrebleu.metrics.chrf import CHRF

from compressor.config import Recipe
from compressor.decoding.search import beam_search, pad_sources
from compressor.distillation.hypotheses import FirstHypothesis, MostAgreed, NearestToReference
from compressor.distillation.setup import Setup, set_up
from compressor.distillation.signals import LiveTeacher, Signal, prepare_signal

HYPOTHESES = [
    ["a cat sat on a mat", "the cat sat on the mat", "the dog sat on the mat.", "the cat sits on the mat"],
    ["birds", "some birds fly", "birds fly away", "a bird", "birds fly"],
]
REFERENCES = ["the dog sits on a mat.", "a bird flies away"]


def chrf(hypothesis: str, reference: str) -> float:
    return CHRF().sentence_score(hypothesis, [reference]).score


def bleu(hypothesis: str, reference: str) -> float:
    """BLEU of one sentence: the first order without a match counts half a match, the next a quarter, and so on."""
    one, other = (text.replace(".", " .").split() for text in (hypothesis, reference))
    logs, smoothing = [], 1.0
    for order in range(1, min(4, len(one)) + 1):
        ours, theirs = (Counter(zip(*(words[at:] for at in range(order)), strict=False)) for words in (one, other))
        matches = (ours & theirs).total()
        if not matches and order == 1:
            return 0.0
        if not matches:
            smoothing *= 2
        logs.append(math.log((matches or 1 / smoothing) / ours.total()))
    return math.exp(min(0.0, 1 - len(other) / len(one)) + np.mean(logs))


def test_the_nearest_to_the_reference_has_the_greatest_bleu() -> None:
    expected = [
        [int(np.argmax([bleu(text, reference) for text in texts]))]
        for texts, reference in zip(HYPOTHESES, REFERENCES, strict=True)
    ]
    assert NearestToReference().choose(HYPOTHESES, REFERENCES) == expected == [[0], [3]]
    assert FirstHypothesis().choose(HYPOTHESES, REFERENCES) == [[0], [0]]


def mean_chrf(texts: list[str], place: int) -> float:
    others = texts[:place] + texts[place + 1 :]
    return float(np.mean([chrf(texts[place], other) for other in others]))


@pytest.mark.parametrize("count", [1, 2, 9])
def test_the_most_agreed_have_the_greatest_mean_chrf_to_the_others(count: int) -> None:
    expected = [
        sorted(range(len(texts)), key=lambda place, texts=texts: -mean_chrf(texts, place))[:count]
        for texts in HYPOTHESES
    ]
    assert MostAgreed(count).choose(HYPOTHESES, REFERENCES) == expected
    assert expected[0][0] != 0


def test_equals_are_taken_in_the_teachers_order() -> None:
    assert MostAgreed(3).choose([["one", "one", "one"]], [""]) == [[0, 1, 2]]


def n_best(setup: Setup, indices: range) -> list[list[list[int]]]:
    """Computed by the teacher's module, cut at ``max_target_tokens`` as labels are."""
    sources = [setup.train.sources[index].tolist() for index in indices]
    teacher = setup.teacher
    source, mask = pad_sources(sources, setup.generation.pad_id)
    outputs = beam_search(teacher.model, teacher.generation, source, mask, num_beams=3, num_return=3)
    return [[one.tokens for one in of_source] for of_source in outputs]


def signals(make_recipe: Callable[..., Recipe], method: dict, out: Path) -> tuple[Setup, list[Signal]]:
    recipe = make_recipe(method.pop("name"), method_section=method)
    train = [source.model_copy(update={"size": 12}) for source in recipe.data.train]
    setup = set_up(recipe.model_copy(update={"data": recipe.data.model_copy(update={"train": train})}))
    out.mkdir()
    return setup, [LiveTeacher(setup), prepare_signal(setup, out, Console(quiet=True))[0]]


def test_seqinter_reads_the_hypothesis_nearest_to_the_reference(
    make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    setup, both = signals(make_recipe, {"name": "seqinter"}, tmp_path / "run")
    indices = range(len(setup.train.sources))
    expected = []
    for index, outputs in zip(indices, n_best(setup, indices), strict=True):
        reference = setup.tokenizer.decode(setup.train.targets[index].tolist())
        expected.append(max(outputs, key=lambda tokens: bleu(setup.tokenizer.decode(tokens), reference)))
    assert any(outputs[0] != one for outputs, one in zip(n_best(setup, indices), expected, strict=True))
    for signal in both:
        assert [list(tokens) for tokens in signal.outputs(indices, [0] * len(indices))] == expected


def test_mbr_takes_the_chosen_hypotheses_in_turn(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    setup, both = signals(make_recipe, {"name": "mbr", "mbr_hypotheses": 2}, tmp_path / "run")
    indices = range(len(setup.train.sources))
    texts = [[setup.tokenizer.decode(tokens) for tokens in outputs] for outputs in n_best(setup, indices)]
    for signal in both:
        for visit in range(4):
            outputs = signal.outputs(indices, [visit] * len(indices))
            for of_source, tokens in zip(texts, outputs, strict=True):
                means = sorted((mean_chrf(of_source, place) for place in range(3)), reverse=True)
                place = of_source.index(setup.tokenizer.decode(list(tokens)))
                assert mean_chrf(of_source, place) == pytest.approx(means[visit % 2])
