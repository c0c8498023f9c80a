"""Every architecture that a recipe may name has a configuration and a module."""

from __future__ import annotations

import pytest

from compressor.model_config import ARCHITECTURES, complete_config
from compressor.models.registry import MODULES, build_model
from tests.models.test_contract import small_student

SIZES = {"d_model": 16, "num_heads": 2, "encoder_layers": 1, "encoder_ffn": 8, "decoder_ffn": 8, "max_length": 16}


def test_modules_are_those_of_the_architectures() -> None:
    assert set(MODULES) == set(ARCHITECTURES)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_recipes_student_becomes_its_architectures_module(architecture: str) -> None:
    student = small_student(architecture, SIZES)
    config = complete_config(student, vocab_size=11, pad_id=10)
    assert config.model_dump().items() >= {**student.model_dump(), "vocab_size": 11, "pad_id": 10}.items()
    assert type(build_model(config)) is MODULES[architecture]
