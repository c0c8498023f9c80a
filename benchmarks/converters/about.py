"""What a converted folder says beside the model itself; read without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from compressor.errors import ModelError
from compressor.tokenizer import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from compressor.models.storage import Run

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


def write_about(run: Run, folder: Path) -> None:
    """Writes the tokenizer and, last of all, ``about.json``."""
    from compressor.models.base import count_parameters

    rules = run.generation
    run.tokenizer.save(folder / TOKENIZER)
    about = About(
        parameters=run.info.get("parameters") or count_parameters(run.model),
        eos_id=rules.eos_id,
        pad_id=rules.pad_id,
        max_source_tokens=rules.max_source_tokens,
        max_new_tokens=rules.max_new_tokens,
    )
    (folder / ABOUT).write_text(about.model_dump_json(), encoding="utf-8")


def read_about(folder: Path) -> tuple[About, Tokenizer]:
    """What was written. Raises ModelError where nothing was."""
    if not is_converted(folder):
        raise ModelError(f"{folder}: not converted; see benchmarks.converters")
    about = About.model_validate_json((folder / ABOUT).read_text(encoding="utf-8"))
    return about, load_tokenizer(folder / TOKENIZER)
