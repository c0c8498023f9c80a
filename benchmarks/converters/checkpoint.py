"""To a Hugging Face checkpoint, for others to convert: ``python -m benchmarks.converters.checkpoint MODEL FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.converters.about import MODEL
from benchmarks.converters.describe import describe
from compressor.exporters.checkpoints import load_exportable
from compressor.teachers.conversion.marian import to_marian


def convert(source: Path, folder: Path) -> None:
    """Writes the converted folder.

    Raises:
        ModelError: the layout is not Marian's.
    """
    run = load_exportable(source)
    to_marian(run.model, run.generation).save_pretrained(folder / MODEL)
    describe(run, folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
