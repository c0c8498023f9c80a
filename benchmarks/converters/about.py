"""What a converted folder says beside the model itself; read without torch."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from compressor.errors import ModelError
from compressor.text.tokenizer import Tokenizer, load_tokenizer

ABOUT, MODEL, TOKENIZER = "about.json", "model", "tokenizer"


class About(BaseModel):
    """Content of ``about.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    parameters: int
    eos_id: int
    pad_id: int
    max_source_tokens: int
    max_new_tokens: int


def is_converted(folder: Path) -> bool:
    """Whether a folder was written by a converter."""
    return (folder / ABOUT).is_file()


def read_about(folder: Path) -> tuple[About, Tokenizer]:
    """What was written. Raises ModelError where nothing was."""
    if not is_converted(folder):
        raise ModelError(f"{folder}: not converted; see benchmarks.converters")
    about = About.model_validate_json((folder / ABOUT).read_text(encoding="utf-8"))
    return about, load_tokenizer(folder / TOKENIZER)
