"""CTranslate2 on a folder that this engine's converter wrote, whose vocabulary is the token ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ctranslate2

from benchmarks.engines.base import EngineOutput, EngineSpec, encode_sources, finish_reasons
from benchmarks.engines.converted_model import MODEL, read_converted
from compressor.errors import DependencyError, ModelError

COMPUTE_TYPES = {"fp32": "float32", "fp16": "float16", "int8": "int8"}


class CTranslate2Engine:
    """Token ids go in as strings and come out as strings; everything else is the library's default."""

    max_num_beams: int | None = None

    def __init__(self, spec: EngineSpec, threads: int) -> None:
        if spec.precision not in COMPUTE_TYPES:
            raise ModelError(f"ctranslate2 engine: no precision {spec.precision}, choose {' or '.join(COMPUTE_TYPES)}")
        if spec.device == "cuda" and not ctranslate2.get_cuda_device_count():
            raise DependencyError("device cuda: CTranslate2 found no GPU, or was built without CUDA")
        folder = Path(spec.path)
        self._described, self._tokenizer = read_converted(folder)
        self._translator = ctranslate2.Translator(
            str(folder / MODEL),
            device=spec.device,
            compute_type=COMPUTE_TYPES[spec.precision],
            inter_threads=spec.inter_threads,
            intra_threads=threads,
        )
        self.size_mb = (folder / MODEL / "model.bin").stat().st_size / 1e6
        self.parameters: int | None = self._described.parameters
        self._max_new_tokens = spec.max_new_tokens or self._described.max_new_tokens

    def translate(self, texts: Sequence[str], *, num_beams: int, max_batch_size: int = 0) -> EngineOutput:
        """Tokenizes, searches and decodes one batch; ``max_batch_size`` 0 leaves it whole."""
        sources, shortened = encode_sources(self._tokenizer, texts, self._described.max_source_tokens)
        results = self._translator.translate_batch(
            [[str(token) for token in ids] for ids in sources],
            beam_size=num_beams,
            max_decoding_length=self._max_new_tokens,
            max_batch_size=max_batch_size,
        )
        rows = [[int(token) for token in result.hypotheses[0]] for result in results]
        counts = [min(len(row) + 1, self._max_new_tokens) for row in rows]  # the end of sentence is not in the row
        reasons = finish_reasons(rows, sources, self._max_new_tokens)
        return EngineOutput([self._tokenizer.decode(row) for row in rows], counts, reasons, shortened)


def load(spec: EngineSpec, threads: int) -> CTranslate2Engine:
    """Opens a converted folder."""
    return CTranslate2Engine(spec, threads)
