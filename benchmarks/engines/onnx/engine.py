"""A bundle in ONNX Runtime, through the runtime that users have. No torch is imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.engines.base import EngineOutput, EngineSpec
from compressor.runtime.documents import Split
from compressor.runtime.generator import Generator
from compressor.runtime.session import check_onnxruntime

check_onnxruntime()  # imports the library now, so that its memory does not count as the model's

_ONE_CALL = 2**31 - 1  # tokens: a measured call is one batch, however long its sentences


class OnnxEngine:
    """The whole search in one graph."""

    def __init__(self, spec: EngineSpec, threads: int) -> None:
        folder = Path(spec.path)
        self._generator = Generator.load(
            folder,
            precision=spec.precision,
            intra_threads=threads,
            inter_threads=spec.inter_threads,
            num_beams=spec.num_beams,
            device=spec.device,
        )
        self._max_new_tokens = spec.max_new_tokens
        manifest = self._generator.manifest
        self.max_num_beams: int | None = manifest.max_num_beams
        self.parameters: int | None = manifest.parameters
        self.size_mb = sum((folder / name).stat().st_size for name in manifest.weight_files(spec.precision)) / 1e6

    def translate(
        self, texts: Sequence[str], *, num_beams: int, max_batch_size: int | None = None, split: Split = "none"
    ) -> EngineOutput:
        """Tokenizes, searches and decodes one batch."""
        results = self._generator.generate(
            list(texts),
            num_beams=num_beams,
            max_new_tokens=self._max_new_tokens,
            split=split,
            batch_size=max_batch_size or len(texts),
            batch_tokens=_ONE_CALL,
            truncation="longest_first",
        )
        return EngineOutput(
            [result.text for result in results],
            [result.output_tokens for result in results],
            lambda: [result.finish_reason for result in results],
            sum(result.truncated for result in results),
        )


def load(spec: EngineSpec, threads: int) -> OnnxEngine:
    """Opens a bundle. Raises BundleError where it is incomplete or altered, or lacks the precision."""
    return OnnxEngine(spec, threads)
