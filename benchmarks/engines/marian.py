"""Marian itself, through pymarian, which needs an environment of its own.

The folder is from ``benchmarks.converters.marian``; for int8 the model in it has been through ``pymarian convert``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pymarian import Translator

from benchmarks.converters.about import MODEL, read_about
from benchmarks.engines.base import EngineSpec, Output
from compressor.errors import ModelError
from compressor.text.tokenizer import cut

MODELS = {"fp32": "model.npz", "int8": "model.bin"}


class MarianEngine:
    """Token ids go in and out as words; its threads are workers, each of which takes a batch."""

    max_num_beams: int | None = None

    def __init__(self, spec: EngineSpec, threads: int) -> None:
        if spec.precision not in MODELS:
            raise ModelError(f"marian engine: no precision {spec.precision}, choose {' or '.join(MODELS)}")
        folder = Path(spec.path)
        self._about, self._tokenizer = read_about(folder)
        # Its limit is a multiple of the source's length; where outputs are forced to a length, it is the source's.
        self._limit, factor = (spec.max_new_tokens, 1) if spec.max_new_tokens else (self._about.max_new_tokens, 3)
        model = folder / MODEL / MODELS[spec.precision]
        vocabulary = folder / MODEL / "vocab.yml"
        self._options = (
            f"-m {model} -v {vocabulary} {vocabulary} --normalize 0 --word-penalty 0 "
            f"--cpu-threads {spec.inter_threads} "
            f"--maxi-batch 1 --max-length {self._about.max_source_tokens} --max-length-factor {factor} --quiet"
        )
        self._translators: dict[tuple[int, int], Translator] = {}
        self._translator(1, 1)
        self.parameters: int | None = self._about.parameters
        self.size_mb = model.stat().st_size / 1e6

    def translate(self, texts: Sequence[str], *, num_beams: int, max_batch_size: int | None = None) -> Output:
        """Tokenizes, searches and decodes one batch."""
        about = self._about
        rows = [cut(self._tokenizer.encode_source(text), about.max_source_tokens, about.eos_id) for text in texts]
        lines = [" ".join(f"w{token}" for token in row[:-1]) for row in rows]  # it adds the end of sentence itself
        found = self._translator(max_batch_size or len(texts), num_beams).translate(lines)
        outputs = [[int(word[1:]) for word in line.split() if word[1:].isdecimal()] for line in found]
        return Output(
            [self._tokenizer.decode(row) for row in outputs], [min(len(row) + 1, self._limit) for row in outputs]
        )

    def _translator(self, batch_size: int, num_beams: int) -> Translator:
        """Batch and beams are settings of the whole program there."""
        key = (batch_size, num_beams)
        if key not in self._translators:
            self._translators = {key: Translator(f"{self._options} --mini-batch {batch_size} --beam-size {num_beams}")}
        return self._translators[key]


def load(spec: EngineSpec, threads: int) -> MarianEngine:
    """Opens a converted folder."""
    return MarianEngine(spec, threads)
