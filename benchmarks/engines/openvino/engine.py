"""Hugging Face `generate` over graphs that Optimum exported, in OpenVINO.

The folder is from the converter of ``benchmarks.engines.optimum``, with ``optimum-cli export openvino`` run over its
model. The library needs another version of transformers than this project.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optimum.intel import OVModelForSeq2SeqLM

from benchmarks.engines.base import EngineSpec
from benchmarks.engines.optimum.generate import OptimumEngine


def load(spec: EngineSpec, threads: int) -> OptimumEngine:
    """Opens an exported folder."""
    return OptimumEngine(spec, threads, _load_model, graphs=("openvino_*",))


def _load_model(folder: Path, threads: int) -> Any:
    return OVModelForSeq2SeqLM.from_pretrained(folder, ov_config={"INFERENCE_NUM_THREADS": threads})
