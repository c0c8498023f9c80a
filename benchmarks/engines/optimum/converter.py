"""Writes a checkpoint for Optimum's exporters: ``python -m benchmarks.engines.optimum.converter IN OUT``."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.engines.converted_model import MODEL
from benchmarks.engines.converted_writer import write_description
from compressor.exporters.checkpoints import load_exportable
from compressor.teachers.conversion.marian import to_marian


def convert(source: Path, folder: Path) -> None:
    """Writes the converted folder.

    Raises:
        ModelError: the layout is not Marian's.
    """
    run = load_exportable(source)
    to_marian(run.model, run.generation).save_pretrained(folder / MODEL)
    write_description(run, folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
