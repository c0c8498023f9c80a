"""Hugging Face `generate` over graphs that Optimum exported, in ONNX Runtime or in OpenVINO.

The folder is from ``benchmarks.converters.checkpoint``, with ``optimum-cli export`` run over its model. Both libraries
need other versions of transformers than this project, and so an environment of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.converters.about import MODEL, read_about
from benchmarks.engines.base import EngineSpec, Output
from compressor.errors import ModelError
from compressor.generation_config import until_eos
from compressor.text.tokenizer import cut


class OptimumEngine:
    """Encoder and decoder are graphs; the search is a loop in Python."""

    max_num_beams: int | None = None

    def __init__(self, spec: EngineSpec, threads: int) -> None:
        if spec.precision != "fp32":
            raise ModelError(f"{spec.engine} engine: no precision {spec.precision}, choose fp32")
        folder = Path(spec.path)
        torch.set_num_threads(threads)
        self._about, self._tokenizer = read_about(folder)
        self._model = _open(spec.engine, folder / MODEL, threads)
        self._limit = spec.max_new_tokens or self._about.max_new_tokens
        self.parameters: int | None = self._about.parameters
        graphs = ("*.onnx*", "openvino_*")
        self.size_mb = sum(file.stat().st_size for glob in graphs for file in (folder / MODEL).glob(glob)) / 1e6

    def translate(self, texts: Sequence[str], *, num_beams: int) -> Output:
        """Tokenizes, generates and decodes one batch."""
        about = self._about
        rows = [cut(self._tokenizer.encode_source(text), about.max_source_tokens, about.eos_id) for text in texts]
        width = max(map(len, rows))
        source = torch.tensor([row + [about.pad_id] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        ids = self._model.generate(
            input_ids=source, attention_mask=mask, num_beams=num_beams, do_sample=False, max_new_tokens=self._limit
        )
        outputs = [until_eos(row, about.eos_id, about.pad_id) for row in ids[:, 1:].tolist()]
        return Output([self._tokenizer.decode(row) for row in outputs], [len(row) for row in outputs])


def load(spec: EngineSpec, threads: int) -> OptimumEngine:
    """Opens an exported folder."""
    return OptimumEngine(spec, threads)


def _open(engine: str, folder: Path, threads: int) -> Any:
    if engine == "openvino":
        from optimum.intel import OVModelForSeq2SeqLM

        return OVModelForSeq2SeqLM.from_pretrained(folder, ov_config={"INFERENCE_NUM_THREADS": threads})
    import onnxruntime
    from optimum.onnxruntime import ORTModelForSeq2SeqLM

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return ORTModelForSeq2SeqLM.from_pretrained(folder, session_options=options)
