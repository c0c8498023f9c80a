"""Writes the description beside a converted model."""

from __future__ import annotations

from pathlib import Path

from benchmarks.engines.converted_model import DESCRIPTION, TOKENIZER, ConvertedModel
from compressor.models.base import count_parameters
from compressor.models.weights import Run


def write_description(run: Run, folder: Path) -> None:
    """Writes the tokenizer and, last, ``description.json``: a folder that has it is complete."""
    generation = run.generation
    run.tokenizer.save(folder / TOKENIZER)
    described = ConvertedModel(
        parameters=run.record.parameters or count_parameters(run.model),
        eos_id=generation.eos_id,
        pad_id=generation.pad_id,
        max_source_tokens=generation.max_source_tokens,
        max_new_tokens=generation.max_new_tokens,
    )
    (folder / DESCRIPTION).write_text(described.model_dump_json(), encoding="utf-8")
