"""The architectures: the name that a configuration carries, to its configuration and its module.

A new architecture is a module beside this one, a pair of classes in ``model_config``, and a line here.
"""

from __future__ import annotations

from typing import NamedTuple

from compressor.model_config import ModelConfig, SsruModelConfig, StudentConfig, TransformerModelConfig
from compressor.models.base import Seq2SeqModel
from compressor.models.recurrent import Ssru
from compressor.models.transformer import Transformer


class Architecture(NamedTuple):
    """What belongs to a name."""

    config: type[TransformerModelConfig | SsruModelConfig]
    module: type[Seq2SeqModel]


ARCHITECTURES = {
    "transformer": Architecture(TransformerModelConfig, Transformer),
    "ssru": Architecture(SsruModelConfig, Ssru),
}


def complete_config(student: StudentConfig, vocab_size: int, pad_id: int) -> ModelConfig:
    """The configuration of a student's module: what the recipe says, and its vocabulary."""
    config = ARCHITECTURES[student.architecture].config
    return config(**student.model_dump(), vocab_size=vocab_size, pad_id=pad_id)


def build_model(config: ModelConfig) -> Seq2SeqModel:
    """The module of a configuration, with fresh weights."""
    return ARCHITECTURES[config.architecture].module(config)
