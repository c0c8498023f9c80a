"""The description that lies beside a converted model; read without torch."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from compressor.errors import ModelError
from compressor.text.tokenizer import Tokenizer, load_tokenizer

DESCRIPTION, MODEL, TOKENIZER = "description.json", "model", "tokenizer"


class ConvertedModel(BaseModel):
    """Content of ``description.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    parameters: int
    eos_id: int
    pad_id: int
    max_source_tokens: int
    max_new_tokens: int


def is_converted(folder: Path) -> bool:
    """Whether a converter wrote this folder."""
    return (folder / DESCRIPTION).is_file()


def read_converted(folder: Path) -> tuple[ConvertedModel, Tokenizer]:
    """The description and the tokenizer of a converted folder. Raises ModelError if no converter wrote it."""
    if not is_converted(folder):
        raise ModelError(f"{folder}: not converted; see benchmarks.engines.conversion")
    described = ConvertedModel.model_validate_json((folder / DESCRIPTION).read_text(encoding="utf-8"))
    return described, load_tokenizer(folder / TOKENIZER)
