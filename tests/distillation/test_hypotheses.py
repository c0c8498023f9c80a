"""The choice among the teacher's hypotheses, by BLEU written out and sacreBLEU's chrF; n-best outputs in a run."""

from __future__ import annotations

import io
import math
import os
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from sacrebleu.metrics.chrf import CHRF

from compressor.config import Recipe
from compressor.data.token_rows import TokenRows
from compressor.decoding.search import beam_search, pad_sources
from compressor.distillation.chosen_hypotheses import chosen_hypotheses
from compressor.distillation.hypotheses import HypothesisChoice, MostAgreed, NearestToReference
from compressor.distillation.labels import write_labels
from compressor.distillation.setup import Setup, set_up
from compressor.distillation.signals import Signal, prepare_signal
from compressor.progress import Bar

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


def set_up_twelve(make_recipe: Callable[..., Recipe], method: str, **section: int) -> Setup:
    """The tiny corpus, cut at 12 pairs."""
    recipe = make_recipe(method, method_section=section)
    train = [source.model_copy(update={"size": 12}) for source in recipe.data.train]
    return set_up(recipe.model_copy(update={"data": recipe.data.model_copy(update={"train": train})}))


def signal_of(setup: Setup, out: Path) -> Signal:
    return prepare_signal(setup, out, Console(quiet=True))[0]


def nearest(setup: Setup) -> list[int]:
    """The place of each source's hypothesis of the greatest BLEU."""
    indices = range(len(setup.train.sources))
    decode, places = setup.tokenizer.decode, []
    for index, outputs in zip(indices, n_best(setup, indices), strict=True):
        reference = decode(setup.train.targets[index].tolist())
        places.append(int(np.argmax([bleu(decode(tokens), reference) for tokens in outputs])))
    return places


def test_seqinter_reads_the_hypothesis_nearest_to_the_reference(
    make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    setup = set_up_twelve(make_recipe, "seqinter")
    indices, places = range(len(setup.train.sources)), nearest(setup)
    expected = [outputs[place] for outputs, place in zip(n_best(setup, indices), places, strict=True)]
    assert any(places)
    signal = signal_of(setup, tmp_path)
    assert [list(tokens) for tokens in signal.outputs(indices, [0] * len(indices))] == expected


def test_mbr_takes_the_chosen_hypotheses_in_turn(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    setup = set_up_twelve(make_recipe, "mbr", mbr_hypotheses=2)
    signal, indices = signal_of(setup, tmp_path), range(len(setup.train.sources))
    texts = [[setup.tokenizer.decode(tokens) for tokens in outputs] for outputs in n_best(setup, indices)]
    for visit in range(4):
        outputs = signal.outputs(indices, [visit] * len(indices))
        for of_source, tokens in zip(texts, outputs, strict=True):
            means = sorted((mean_chrf(of_source, place) for place in range(3)), reverse=True)
            place = of_source.index(setup.tokenizer.decode(list(tokens)))
            assert mean_chrf(of_source, place) == pytest.approx(means[visit % 2])


def chosen_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("chosen-*.npy"))


def count_comparisons(monkeypatch: pytest.MonkeyPatch, choice: type = NearestToReference) -> list[int]:
    """The sources of each comparison from now on."""
    compared, choose = [], choice.choose

    def counted(self: HypothesisChoice, hypotheses: list, references: list) -> list[list[int]]:
        compared.append(len(references))
        time.sleep(0.2)  # so that two at once would both begin
        return choose(self, hypotheses, references)

    monkeypatch.setattr(choice, "choose", counted)
    return compared


def test_hypotheses_are_compared_once_for_all_starts(
    make_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup, compared = set_up_twelve(make_recipe, "seqinter"), count_comparisons(monkeypatch)
    signal_of(setup, tmp_path)
    (path,) = chosen_files(tmp_path / "labels")
    assert np.load(path).tolist() == [[place] for place in nearest(setup)] and compared == [12]
    signal_of(setup, tmp_path)
    assert compared == [12]
    for damage in (path.read_bytes()[:-4], b"", np.lib.format.magic(1, 0)):
        path.write_bytes(damage)
        signal_of(setup, tmp_path)
        assert np.load(path).tolist() == [[place] for place in nearest(setup)]
    assert compared == [12] * 4


def test_another_choice_or_other_references_are_compared_anew(
    make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    labels = tmp_path / "labels"
    for number, (method, section) in enumerate(
        [("mbr", {}), ("mbr", {"mbr_hypotheses": 2}), ("seqinter", {}), ("mbr", {})], 1
    ):
        signal_of(set_up_twelve(make_recipe, method, **section), tmp_path)
        assert len(chosen_files(labels)) == min(number, 3)
    setup = set_up_twelve(make_recipe, "seqinter")
    setup.train = setup.train._replace(targets=TokenRows([[5, setup.tokenizer.eos_id]] * 12))
    signal_of(setup, tmp_path)
    assert len(chosen_files(labels)) == 4


def test_of_two_that_start_at_once_one_compares(
    make_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setups = [set_up_twelve(make_recipe, "seqinter") for _ in range(2)]
    store, compared = write_labels(setups[0], tmp_path / "labels", Console(quiet=True)), count_comparisons(monkeypatch)
    text = io.StringIO()
    with ThreadPoolExecutor(2) as pool:
        works = [
            pool.submit(chosen_hypotheses, setup, store, tmp_path, Bar(Console(file=text, width=400), shown=False))
            for setup in setups
        ]
        one, other = (work.result() for work in works)
    assert compared == [12] and one.tolist() == other.tolist() == [[place] for place in nearest(setups[0])]
    assert "is comparing hypotheses; waiting" in text.getvalue() and not list(tmp_path.rglob("*.lock"))


def test_the_choice_is_in_the_run_where_labels_cannot_be_written(
    make_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = set_up_twelve(make_recipe, "seqinter")
    store = write_labels(setup, tmp_path / "labels", Console(quiet=True))
    bar, run = Bar(Console(quiet=True), shown=False), tmp_path / "run"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    places = chosen_hypotheses(setup, store, run, bar)
    assert places is not None and places.tolist() == [[place] for place in nearest(setup)]
    (path,) = chosen_files(run)
    assert not chosen_files(store.folder)
    path.rename(store.folder / path.name)  # made there by another user
    compared = count_comparisons(monkeypatch)
    chosen_hypotheses(setup, store, run, bar)
    assert not compared
