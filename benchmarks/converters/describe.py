"""Writes what a converted folder says beside the model; the converters' side of ``about``."""

from __future__ import annotations

from pathlib import Path

from benchmarks.converters.about import ABOUT, TOKENIZER, About
from compressor.models.base import count_parameters
from compressor.models.weights import Run


def describe(run: Run, folder: Path) -> None:
    """Writes the tokenizer and, last of all, ``about.json``."""
    rules = run.generation
    run.tokenizer.save(folder / TOKENIZER)
    about = About(
        parameters=run.record.parameters or count_parameters(run.model),
        eos_id=rules.eos_id,
        pad_id=rules.pad_id,
        max_source_tokens=rules.max_source_tokens,
        max_new_tokens=rules.max_new_tokens,
    )
    (folder / ABOUT).write_text(about.model_dump_json(), encoding="utf-8")
