"""The method table against the paper's, and against what a recipe is validated with."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from compressor.config import Recipe, dump_recipe, load_recipe, parse_recipe, references_only
from compressor.data_config import AugmentationConfig
from compressor.distillation.contexts import Origin
from compressor.distillation.methods import METHODS, TEACHER_CONTEXTS, resolve
from compressor.distillation.setup import set_up
from compressor.distillation.targets import Distribution, OwnToken
from compressor.errors import ConfigError
from compressor.method_config import (
    FULL_METHODS,
    LABEL_METHODS,
    N_BEST_METHODS,
    OUTPUT_METHODS,
    REFERENCE_METHODS,
    ROLLOUT_METHODS,
    TEACHER_CONTEXT_METHODS,
    TEACHERLESS_METHODS,
    MethodConfig,
    MethodName,
)


@pytest.mark.parametrize(
    ("name", "contexts", "origins"),
    [
        ("vanilla", "references", {Origin.REFERENCE}),
        ("seqkd+full", "references", {Origin.TEACHER}),
        ("imitkd", "references", {Origin.REFERENCE, Origin.STUDENT}),
        ("imitkd", "teacher", {Origin.TEACHER, Origin.STUDENT}),
        ("imitkd+full", "teacher", {Origin.TEACHER, Origin.STUDENT}),
    ],
)
def test_where_contexts_come_from(name: MethodName, contexts: str, origins: set[Origin]) -> None:
    assert resolve(MethodConfig(name=name, contexts=contexts)).contexts.origins == origins


@pytest.mark.parametrize("name", sorted(set(METHODS) - set(TEACHER_CONTEXTS)))
def test_contexts_of_the_teacher_are_refused_by_a_method_without_that_variant(name: MethodName) -> None:
    with pytest.raises(
        ValidationError, match=rf"contexts: teacher is for imitkd, imitkd\+full, not for {re.escape(name)}"
    ):
        MethodConfig(name=name, contexts="teacher")


def test_a_mixture_follows_its_coins() -> None:
    policy = METHODS["imitkd"].contexts
    assert set(policy.choose(range(50), 1.0, 1, 0)) == {Origin.REFERENCE}
    assert set(policy.choose(range(50), 0.0, 1, 0)) == {Origin.STUDENT}


def test_the_recipe_knows_every_row_and_what_it_needs() -> None:
    assert set(METHODS) == set(get_args(MethodName))
    assert {name for name, row in METHODS.items() if row.uses_rollouts} == ROLLOUT_METHODS
    assert set(TEACHER_CONTEXTS) == TEACHER_CONTEXT_METHODS
    teacherless = {
        name
        for name, row in METHODS.items()
        if row.contexts.origins == {Origin.REFERENCE} and isinstance(row.target, OwnToken)
    }
    assert teacherless == TEACHERLESS_METHODS
    full = {name for name, row in METHODS.items() if isinstance(row.target, Distribution)}
    assert full == FULL_METHODS
    assert {name for name in full if Origin.REFERENCE in METHODS[name].contexts.origins} == REFERENCE_METHODS
    assert {name for name, row in METHODS.items() if row.choice.compares} == N_BEST_METHODS
    assert {name for name, row in METHODS.items() if row.contexts.origins == {Origin.TEACHER}} == OUTPUT_METHODS
    enough = {name: resolve(MethodConfig(name=name, teacher_top_k=4 if name in full else None)) for name in METHODS}
    assert {name for name, row in enough.items() if not row.reads_model(4)} - TEACHERLESS_METHODS == LABEL_METHODS
    rows = [(name, "references") for name in METHODS] + [(name, "teacher") for name in TEACHER_CONTEXTS]
    for config in (MethodConfig(name=name, contexts=contexts) for name, contexts in rows):
        assert config.reads_teacher_outputs == resolve(config).reads_teacher_outputs


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
