"""Marian, through pymarian, on a folder that this engine's converter wrote; for int8, ``pymarian convert``, too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pymarian import Translator

from benchmarks.engines.base import EngineOutput, EngineSpec, encode_sources
from benchmarks.engines.converted_model import MODEL, read_converted
from compressor.errors import ModelError

MODELS = {"fp32": "model.npz", "int8": "model.bin"}


class MarianEngine:
    """Takes and returns token ids as words; each of its threads translates a batch."""

    max_num_beams: int | None = None

    def __init__(self, spec: EngineSpec, threads: int) -> None:
        if spec.precision not in MODELS:
            raise ModelError(f"marian engine: no precision {spec.precision}, choose {' or '.join(MODELS)}")
        folder = Path(spec.path)
        self._described, self._tokenizer = read_converted(folder)
        # Marian limits outputs to a multiple of the source's length; a forced length is that of the source.
        self._limit, factor = (spec.max_new_tokens, 1) if spec.max_new_tokens else (self._described.max_new_tokens, 3)
        model = folder / MODEL / MODELS[spec.precision]
        vocabulary = folder / MODEL / "vocab.yml"
        self._options = (
            f"-m {model} -v {vocabulary} {vocabulary} --normalize 0 --word-penalty 0 "
            f"--cpu-threads {spec.inter_threads} "
            f"--maxi-batch 1 --max-length {self._described.max_source_tokens} --max-length-factor {factor} --quiet"
        )
        self._translators: dict[tuple[int, int], Translator] = {}
        self._translator(1, 1)
        self.parameters: int | None = self._described.parameters
        self.size_mb = model.stat().st_size / 1e6

    def translate(self, texts: Sequence[str], *, num_beams: int, max_batch_size: int | None = None) -> EngineOutput:
        """Tokenizes, searches and decodes one batch."""
        rows, shortened = encode_sources(self._tokenizer, texts, self._described.max_source_tokens)
        lines = [" ".join(f"w{token}" for token in row[:-1]) for row in rows]  # Marian adds the end of sentence
        translations = self._translator(max_batch_size or len(texts), num_beams).translate(lines)
        outputs = [[int(word[1:]) for word in line.split() if word[1:].isdecimal()] for line in translations]
        counts = [min(len(row) + 1, self._limit) for row in outputs]  # the end of sentence is not in the row
        return EngineOutput([self._tokenizer.decode(row) for row in outputs], counts, cut_sources=shortened)

    def _translator(self, batch_size: int, num_beams: int) -> Translator:
        """The translator for a batch size and a number of beams, which Marian fixes when it loads."""
        key = (batch_size, num_beams)
        if key not in self._translators:
            self._translators = {key: Translator(f"{self._options} --mini-batch {batch_size} --beam-size {num_beams}")}
        return self._translators[key]


def load(spec: EngineSpec, threads: int) -> MarianEngine:
    """Opens a converted folder."""
    return MarianEngine(spec, threads)
