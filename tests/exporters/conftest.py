"""A tiny random model whose outputs end at different lengths, and its graphs."""

from __future__ import annotations

import random
from pathlib import Path

import onnx_ir as ir
import pytest
import torch

from compressor.exporters.graphs.search_loop import build_graphs
from compressor.exporters.graphs.weights import write_graphs
from compressor.exporters.quantization.calibration import calibrate
from compressor.exporters.quantization.rewrite import Ranges, quantize, weight_matmuls
from compressor.generation_config import GenerationConfig
from compressor.model_config import TransformerModelConfig
from compressor.models.base import Seq2SeqModel
from compressor.models.registry import build_model

VOCAB = 600
SIZES = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "num_heads": 2, "encoder_ffn": 32, "decoder_ffn": 32}
EVERY_RULE = GenerationConfig(
    start_id=60,
    eos_id=0,
    pad_id=60,
    suppressed_ids=(60, 3, 17),
    begin_suppressed_ids=(5, 9),
    forced_bos_id=7,
    forced_eos_id=0,
    min_new_tokens=3,
    max_new_tokens=12,
)
PLAIN = GenerationConfig(start_id=60, eos_id=0, pad_id=60, suppressed_ids=(60,), max_new_tokens=12)


def random_model(**sizes: object) -> Seq2SeqModel:
    torch.manual_seed(3)
    model = build_model(TransformerModelConfig(vocab_size=VOCAB, pad_id=60, max_length=32, **{**SIZES, **sizes})).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)  # peaked distributions, and outputs that depend on the source
        model.output_bias[0] += 12.0
    return model


@pytest.fixture(scope="session")
def model() -> Seq2SeqModel:
    return random_model()


@pytest.fixture(scope="session")
def graphs(model: Seq2SeqModel) -> dict[str, ir.Model]:
    """The fp32 graphs under every rule of the generation configuration."""
    return build_graphs(model, EVERY_RULE)


@pytest.fixture(scope="session")
def ranges(graphs: dict[str, ir.Model]) -> Ranges:
    """Of the activations on sources like those of the tests."""
    chance = random.Random(9)
    return calibrate(graphs, [[chance.randrange(1, 60) for _ in range(9)] + [0] for _ in range(60)], 12)


@pytest.fixture(scope="session")
def folders(graphs: dict[str, ir.Model], ranges: Ranges, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Precision to the folder of its graphs."""
    root = tmp_path_factory.mktemp("graphs")
    keys = sorted({matmul.key for graph in graphs.values() for matmul in weight_matmuls(graph)})
    for precision, bits in {"int8": {}, "int4": dict.fromkeys(keys, 4), "mixed": dict.fromkeys(keys[::2], 8)}.items():
        quantized = {name: graph.clone() for name, graph in graphs.items()}
        for graph in quantized.values():
            quantize(graph, VOCAB, ranges, bits=bits)
        write_graphs(quantized, root / precision)
    write_graphs({name: graph.clone() for name, graph in graphs.items()}, root / "fp32")
    return {name: root / name for name in ("fp32", "int8", "int4", "mixed")}
