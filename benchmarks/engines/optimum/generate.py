"""Hugging Face `generate` over the graphs of an encoder and a decoder, for all engines that Optimum exports for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.engines.base import EngineOutput, EngineSpec, encode_sources
from benchmarks.engines.converted_model import MODEL, read_converted
from compressor.errors import ModelError
from compressor.generation_config import until_eos


class OptimumEngine:
    """An encoder and a decoder as graphs, with Hugging Face's search around them.

    Args:
        spec: What is loaded.
        threads: Threads inside one operator.
        load_model: Opens the folder of graphs with so many threads, as a model that has ``generate``.
        graphs: Patterns of the graphs' file names.
    """

    max_num_beams: int | None = None

    def __init__(
        self, spec: EngineSpec, threads: int, load_model: Callable[[Path, int], Any], graphs: Sequence[str]
    ) -> None:
        if spec.precision != "fp32":
            raise ModelError(f"{spec.engine} engine: no precision {spec.precision}, choose fp32")
        folder = Path(spec.path)
        torch.set_num_threads(threads)
        self._described, self._tokenizer = read_converted(folder)
        self._model = load_model(folder / MODEL, threads)
        self._limit = spec.max_new_tokens or self._described.max_new_tokens
        self.parameters: int | None = self._described.parameters
        self.size_mb = sum(file.stat().st_size for glob in graphs for file in (folder / MODEL).glob(glob)) / 1e6

    def translate(self, texts: Sequence[str], *, num_beams: int) -> EngineOutput:
        """Tokenizes, generates and decodes one batch."""
        described = self._described
        rows, shortened = encode_sources(self._tokenizer, texts, described.max_source_tokens)
        width = max(map(len, rows))
        source = torch.tensor([row + [described.pad_id] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        ids = self._model.generate(
            input_ids=source, attention_mask=mask, num_beams=num_beams, do_sample=False, max_new_tokens=self._limit
        )
        outputs = [until_eos(row, described.eos_id, described.pad_id) for row in ids[:, 1:].tolist()]
        texts = [self._tokenizer.decode(row) for row in outputs]
        return EngineOutput(texts, [len(row) for row in outputs], cut_sources=shortened)
