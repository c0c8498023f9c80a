"""The module of each architecture.

A new architecture is a module beside this one, a pair of classes in ``model_config``, and a line here.
"""

from __future__ import annotations

from compressor.model_config import ModelConfig
from compressor.models.base import Seq2SeqModel
from compressor.models.recurrent import Ssru
from compressor.models.sru import Sru
from compressor.models.transformer import Transformer

MODULES: dict[str, type[Seq2SeqModel]] = {"transformer": Transformer, "ssru": Ssru, "sru": Sru}
"""By the ``architecture`` of a configuration."""


def build_model(config: ModelConfig) -> Seq2SeqModel:
    """Returns the module of a configuration, with fresh weights."""
    return MODULES[config.architecture](config)
