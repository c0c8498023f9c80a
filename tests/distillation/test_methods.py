"""The recipe's names of methods, which need no torch, against the rows of the method table."""

from __future__ import annotations

from typing import get_args

import pytest

from compressor.config import ROLLOUT_METHODS, TEACHERLESS_METHODS, MethodConfig, MethodName
from compressor.distillation.contexts import Origin
from compressor.distillation.methods import METHODS, TEACHER_CONTEXTS, resolve
from compressor.distillation.targets import OwnToken


def test_a_recipe_can_name_every_row() -> None:
    assert set(get_args(MethodName)) == set(METHODS) >= set(TEACHER_CONTEXTS)


@pytest.mark.parametrize("name", METHODS)
def test_the_recipe_knows_what_a_method_reads(name: MethodName) -> None:
    method = resolve(MethodConfig(name=name))
    needs_no_teacher = isinstance(method.target, OwnToken) and method.contexts.origins == {Origin.REFERENCE}
    assert (name in ROLLOUT_METHODS) == method.uses_rollouts
    assert (name in TEACHERLESS_METHODS) == needs_no_teacher
