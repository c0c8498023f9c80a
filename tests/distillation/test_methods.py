"""The method table against the paper's, and against what a recipe is validated with."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import get_args

import pytest
from pydantic import ValidationError

from compressor.config import Recipe
from compressor.data_config import AugmentationConfig
from compressor.distillation.contexts import Origin
from compressor.distillation.methods import METHODS, TEACHER_CONTEXTS, resolve
from compressor.distillation.setup import set_up
from compressor.distillation.targets import OwnToken
from compressor.method_config import (
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


def test_recorded_methods_train_on_the_sources_that_the_teacher_saw(make_recipe: Callable[..., Recipe]) -> None:
    shares = AugmentationConfig(upper_case=1.0)
    for method, fixed in (("seqkd", True), ("vanilla", False)):
        recipe = make_recipe(method)
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"augmentation": shares})})
        setup = set_up(recipe)
        text = setup.tokenizer.decode_source(setup.train.sources[0].tolist())
        assert (setup.augmentation is None) == fixed and text.isupper() == fixed
