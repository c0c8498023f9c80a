"""The method table against the paper's, what follows from its rows, and what they compute."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from compressor.config import Recipe, dump_recipe, load_recipe, parse_recipe, references_only
from compressor.data_config import AugmentationConfig
from compressor.distillation.contexts import Always, ContextPolicy, Mixture
from compressor.distillation.hypotheses import MostAgreed, NearestToReference
from compressor.distillation.methods import resolve
from compressor.distillation.setup import set_up
from compressor.distillation.targets import BestToken, Distribution
from compressor.errors import ConfigError
from compressor.method_config import MethodConfig
from compressor.method_table import METHODS, MethodName, MethodRow, Origin, names_of

REFERENCE, TEACHER, STUDENT = Origin
FULL_NAMES = {"vanilla+full", "seqkd+full", "mbr+full", "imitkd+full"}


@pytest.mark.parametrize(
    ("name", "contexts", "policy"),
    [
        ("vanilla", "references", Always(REFERENCE)),
        ("seqkd+full", "references", Always(TEACHER)),
        ("imitkd", "references", Mixture(REFERENCE, STUDENT)),
        ("imitkd", "teacher", Mixture(TEACHER, STUDENT)),
        ("imitkd+full", "teacher", Mixture(TEACHER, STUDENT)),
    ],
)
def test_where_contexts_come_from(name: MethodName, contexts: str, policy: ContextPolicy) -> None:
    assert resolve(MethodConfig(name=name, contexts=contexts)).contexts == policy


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"imitkd", "imitkd+full"}))
def test_contexts_of_the_teacher_are_refused_by_a_method_without_that_variant(name: MethodName) -> None:
    with pytest.raises(
        ValidationError, match=rf"contexts: teacher is for imitkd, imitkd\+full, not for {re.escape(name)}"
    ):
        MethodConfig(name=name, contexts="teacher")


def test_a_mixture_follows_its_coins() -> None:
    policy = resolve(MethodConfig(name="imitkd")).contexts
    assert set(policy.choose(range(50), 1.0, 1, 0)) == {REFERENCE}
    assert set(policy.choose(range(50), 0.0, 1, 0)) == {STUDENT}


# the tables of docs/distilling.md: what each name learns, and what it reads of the teacher
@pytest.mark.parametrize(
    ("fact", "names"),
    [
        (lambda row: row.uses_rollouts, {"imitkd", "imitkd+full"}),
        (lambda row: not row.reads_teacher, {"vanilla"}),
        (lambda row: row.learns_distribution, FULL_NAMES),
        (lambda row: row.learns_distribution_on_references, {"vanilla+full", "imitkd+full"}),
        (lambda row: row.compares_hypotheses, {"seqinter", "mbr", "mbr+full"}),
        (lambda row: row.reads_teacher_outputs, {"seqkd", "seqkd+full", "seqinter", "mbr", "mbr+full"}),
        (lambda row: row.can_do_with_labels, {"seqkd", "seqkd+full", "seqinter", "mbr", "vanilla+full"}),
        (lambda row: row.starts_from_run, {"seqinter"}),
    ],
)
def test_what_follows_from_a_row(fact: Callable[[MethodRow], bool], names: set[str]) -> None:
    assert {name for name, row in METHODS.items() if fact(row)} == names
    assert names_of(fact) == ", ".join(sorted(names))


def test_every_name_has_a_row_and_what_it_computes() -> None:
    assert set(METHODS) == set(get_args(MethodName))
    targets = {name: resolve(MethodConfig(name=name)).target for name in METHODS}
    assert {name for name, target in targets.items() if isinstance(target, Distribution)} == FULL_NAMES
    assert {name for name, target in targets.items() if isinstance(target, BestToken)} == {"imitkd"}
    mbr = MethodConfig(name="mbr", mbr_hypotheses=3)
    assert resolve(mbr).choice == MostAgreed(3) and resolve(MethodConfig(name="seqkd")).choice is None
    assert resolve(MethodConfig(name="seqinter")).choice == NearestToReference()


@pytest.mark.parametrize(
    ("section", "asks"),
    [
        ({"name": "seqkd"}, False),
        ({"name": "mbr"}, False),
        ({"name": "seqkd+full", "teacher_top_k": 4}, False),
        ({"name": "vanilla+full", "teacher_top_k": 3}, False),
        ({"name": "seqkd+full", "teacher_top_k": 5}, True),  # labels have four
        ({"name": "seqkd+full"}, True),
        ({"name": "seqkd+full", "teacher_top_k": 4, "temperature": 2.0}, True),
        ({"name": "mbr+full", "teacher_top_k": 4}, True),  # distributions are at the best outputs
        ({"name": "imitkd+full", "teacher_top_k": 4, "contexts": "teacher"}, True),
        ({"name": "imitkd", "contexts": "teacher"}, True),
    ],
)
def test_which_methods_ask_the_teacher_for_more_than_labels_have(section: dict[str, Any], asks: bool) -> None:
    assert MethodConfig.model_validate(section).reads_model(4) == asks


FULL = "imitkd+full, mbr+full, seqkd+full, vanilla+full"
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"name": "imitkd", "divergence": "reverse_kl"}, f"divergence: reverse_kl is for {FULL}, not for imitkd"),
    ({"name": "seqkd", "temperature": 2.0}, f"temperature: 2.0 is for {FULL}, not for seqkd"),
    ({"name": "vanilla", "teacher_top_k": 8}, f"teacher_top_k: 8 is for {FULL}, not for vanilla"),
    (
        {"name": "seqkd+full", "reference_weight": 0.5},
        "reference_weight: 0.5 is for imitkd+full, vanilla+full, not for seqkd+full",
    ),
    (
        {"contexts": "teacher", "reference_weight": 0.5},
        "reference_weight: 0.5 needs contexts: references, there are none of teacher",
    ),
    ({"name": "seqkd", "mbr_hypotheses": 2}, "mbr_hypotheses: 2 is for mbr, mbr+full, not for seqkd"),
    ({"jsd_weight": 0.1}, "jsd_weight: 0.1 is for divergence: jensen_shannon, not for forward_kl"),
    ({"divergence": "reverse_kl", "skew": 0.2}, "skew: 0.2 is for divergence: skew_kl, not for reverse_kl"),
    (
        {"name": "seqkd", "rollout": {"strategy": "speculative"}},
        "rollout.strategy: speculative is for imitkd, imitkd+full, not for seqkd",
    ),
    (
        {"name": "vanilla", "rollout": {"replay": 0.5}},
        "rollout.replay: 0.5 is for imitkd, imitkd+full, not for vanilla",
    ),
]


@pytest.mark.parametrize(("section", "message"), REFUSED)
def test_settings_of_another_method_are_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        MethodConfig.model_validate(section)


def test_what_other_sections_exclude_is_refused(make_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(ConfigError, match=r"teacher\.num_beams: mbr chooses 4 of 3 hypotheses; give more beams"):
        make_recipe("mbr", method_section={"mbr_hypotheses": 4})
    values = make_recipe("imitkd", method_section={"rollout": {"replay": 0.5}}).model_dump()
    values["data"]["augmentation"] = {"typos": 0.1}
    with pytest.raises(ConfigError, match=r"method\.rollout\.replay: needs sources that stay as they are"):
        parse_recipe(values)


def test_train_ignores_what_a_method_says_of_its_teacher(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> None:
    section = {"divergence": "skew_kl", "skew": 0.2, "contexts": "teacher", "rollout": {"replay": 0.5}}
    recipe = make_recipe("imitkd+full", method_section=section | {"label_smoothing": 0.1})
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(recipe), encoding="utf-8")
    expected = MethodConfig(name="vanilla", label_smoothing=0.1)
    assert load_recipe(path, without_teacher=True).method == references_only(recipe).method == expected


def test_recorded_methods_train_on_the_sources_that_the_teacher_saw(make_recipe: Callable[..., Recipe]) -> None:
    shares = AugmentationConfig(upper_case=1.0)
    for method, fixed in (("seqkd", True), ("vanilla", False)):
        recipe = make_recipe(method)
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"augmentation": shares})})
        setup = set_up(recipe)
        text = setup.tokenizer.decode_source(setup.train.sources[0].tolist())
        assert (setup.augmentation is None) == fixed and text.isupper() == fixed
