"""Hugging Face `generate` over ONNX graphs that Optimum exported, in ONNX Runtime.

The folder is from this engine's converter, with ``optimum-cli export`` run over its model. The library needs another
version of transformers than this project.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
from optimum.onnxruntime import ORTModelForSeq2SeqLM

from benchmarks.engines.base import EngineSpec
from benchmarks.engines.optimum.generate import OptimumEngine


def load(spec: EngineSpec, threads: int) -> OptimumEngine:
    """Opens an exported folder."""
    return OptimumEngine(spec, threads, _load_model, graphs=("*.onnx*",))


def _load_model(folder: Path, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return ORTModelForSeq2SeqLM.from_pretrained(folder, session_options=options)
