"""The project's own models in PyTorch, from a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.engines.base import EngineOutput, EngineSpec, encode_sources, finish_reasons
from benchmarks.engines.torch.device import torch_device
from compressor.decoding.search import beam_search, greedy, pad_sources
from compressor.errors import ModelError
from compressor.models.base import count_parameters
from compressor.models.weights import load_run
from compressor.run_folder import WEIGHTS_FILE


class NativeEngine:
    """Greedy or beam search over the model's cached step."""

    max_num_beams = None

    def __init__(self, spec: EngineSpec, threads: int) -> None:
        if spec.precision != "fp32":
            raise ModelError(f"torch engine: no precision {spec.precision}, choose fp32")
        self._device = torch_device(spec.device)
        torch.set_num_threads(threads)
        folder = Path(spec.path)
        run = load_run(folder)
        self._model, self._generation, self._tokenizer = run.model.to(self._device), run.generation, run.tokenizer
        self._max_new_tokens = spec.max_new_tokens
        self.parameters: int | None = count_parameters(run.model)
        self.size_mb = (folder / WEIGHTS_FILE).stat().st_size / 1e6

    def translate(self, texts: Sequence[str], *, num_beams: int) -> EngineOutput:
        """Encodes, searches and decodes one batch."""
        sources, shortened = encode_sources(self._tokenizer, texts, self._generation.max_source_tokens)
        ids = self._search(sources, num_beams)
        longest = self._max_new_tokens or self._generation.max_new_tokens
        reasons = finish_reasons(ids, sources, longest)
        outputs = [self._tokenizer.decode(row) for row in ids]
        return EngineOutput(outputs, [len(row) for row in ids], reasons, shortened)

    def _search(self, sources: list[list[int]], num_beams: int) -> list[list[int]]:
        """Returns the token ids of each source's best output."""
        source, mask = pad_sources(sources, self._generation.pad_id, self._device)
        if num_beams == 1:
            return greedy(self._model, self._generation, source, mask, self._max_new_tokens)
        searched = beam_search(
            self._model, self._generation, source, mask, num_beams=num_beams, max_new_tokens=self._max_new_tokens
        )
        return [hypotheses[0].tokens for hypotheses in searched]


def load(spec: EngineSpec, threads: int) -> NativeEngine:
    """Opens a run folder. Raises ModelError where it is damaged or none."""
    return NativeEngine(spec, threads)
