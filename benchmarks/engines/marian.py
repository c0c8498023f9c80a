"""Marian itself, through pymarian, which needs an environment of its own.

The folder is from ``benchmarks.converters.marian``; for int8 the model in it has been through ``pymarian convert``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pymarian import Translator

from benchmarks.converters.about import MODEL, read_about
from benchmarks.engines.base import EngineSpec, Output
from compressor.data.corpus import cut
from compressor.errors import ModelError

MODELS = {"fp32": "model.npz", "int8": "model.bin"}


class MarianEngine:
    """Token ids go in and out as words; a batch is what it is given."""

    max_num_beams: int | None = None

    def __init__(self, spec: EngineSpec, threads: int) -> None:
        if spec.precision not in MODELS:
            raise ModelError(f"marian engine: no precision {spec.precision}, choose {' or '.join(MODELS)}")
        folder = Path(spec.path)
        self._about, self._tokenizer = read_about(folder)
        self._limit = spec.max_new_tokens or self._about.max_new_tokens
        model = folder / MODEL / MODELS[spec.precision]
        vocabulary = folder / MODEL / "vocab.yml"
        self._options = (
            f"-m {model} -v {vocabulary} {vocabulary} --normalize 0 --word-penalty 0 --cpu-threads {threads} "
            f"--maxi-batch 1 --max-length {self._about.max_source_tokens} --max-length-factor {self._factor()} --quiet"
        )
        self._translators: dict[tuple[int, int], Translator] = {}
        self._translator(1, 1)
        self.parameters: int | None = self._about.parameters
        self.size_mb = model.stat().st_size / 1e6

    def translate(self, texts: Sequence[str], *, num_beams: int) -> Output:
        """Tokenizes, searches and decodes one batch."""
        about = self._about
        rows = [cut(self._tokenizer.encode_source(text), about.max_source_tokens, about.eos_id) for text in texts]
        lines = [" ".join(f"w{token}" for token in row[:-1]) for row in rows]  # it adds the end of sentence itself
        found = self._translator(len(texts), num_beams).translate(lines)
        outputs = [[int(word[1:]) for word in line.split() if word[1:].isdecimal()] for line in found]
        return Output([self._tokenizer.decode(row) for row in outputs], [len(row) + 1 for row in outputs])

    def _translator(self, batch_size: int, num_beams: int) -> Translator:
        """Batch and beams are settings of the whole program there."""
        key = (batch_size, num_beams)
        if key not in self._translators:
            self._translators = {key: Translator(f"{self._options} --mini-batch {batch_size} --beam-size {num_beams}")}
        return self._translators[key]

    def _factor(self) -> int:
        """Its limit is a multiple of the source's length."""
        return 3


def load(spec: EngineSpec, threads: int) -> MarianEngine:
    """Opens a converted folder."""
    return MarianEngine(spec, threads)
