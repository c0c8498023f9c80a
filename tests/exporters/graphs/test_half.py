"""fp16 against PyTorch in fp32, on the processor."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from compressor.decoding.search import beam_search, greedy, pad_sources
from compressor.exporters.graphs.search_loop import build_half_graphs
from compressor.exporters.graphs.weights import write_graphs
from compressor.exporters.quantization.rewrite import fp32_matmuls
from compressor.models.base import Seq2SeqModel
from tests.exporters.conftest import PLAIN

pytestmark = pytest.mark.slow  # it traces the model once more


@pytest.fixture(scope="module")
def half(model: Seq2SeqModel) -> dict[str, ir.Model]:
    return build_half_graphs(model, PLAIN)


def test_inputs_and_outputs_match_fp32(half: dict[str, ir.Model], graphs: dict[str, ir.Model]) -> None:
    for name in ("generate", "generate_beams"):
        for actual, wanted in zip(
            (*half[name].graph.inputs, *half[name].graph.outputs),
            (*graphs[name].graph.inputs, *graphs[name].graph.outputs),
            strict=True,
        ):
            assert (actual.name, actual.dtype) == (wanted.name, wanted.dtype)
    kinds = {value.name: value.dtype for value in half["decoder_step"].graph.outputs}
    assert kinds["logits"] == ir.DataType.FLOAT and kinds["next_self_key_0"] == ir.DataType.FLOAT16


def test_no_weight_is_left_in_fp32(half: dict[str, ir.Model], model: Seq2SeqModel) -> None:
    for graph in half.values():
        assert not fp32_matmuls(graph)
        for part in (graph.graph, *graph.graph.subgraphs()):
            assert all(value.dtype != ir.DataType.FLOAT for value in part.initializers.values() if len(value.shape) > 1)  # type: ignore[arg-type]
    assert next(model.parameters()).dtype.is_floating_point and next(model.parameters()).element_size() == 4


def test_fp16_search_outputs_match_pytorch(half: dict[str, ir.Model], model: Seq2SeqModel, tmp_path: Path) -> None:
    """Most of it: one of the two best tokens may be within the rounding of the other."""
    chance = random.Random(4)
    sources = [[chance.randrange(1, 60) for _ in range(chance.randrange(2, 12))] + [0] for _ in range(24)]
    source, mask = pad_sources(sources, 60)
    paths = write_graphs({name: graph.clone() for name, graph in half.items()}, tmp_path)
    feeds = {
        "input_ids": source.numpy(),
        "attention_mask": mask.long().numpy(),
        "max_new_tokens": np.full(len(source), 12),
        "min_new_tokens": np.zeros(len(source), np.int64),
        "no_repeat_ngram_size": np.array(0),
        "prefix_ids": np.zeros((len(sources), 0), np.int64),
    }
    (ids,) = onnxruntime.InferenceSession(str(paths["generate"])).run(None, feeds)
    wanted = greedy(model, PLAIN, source, mask, 12)
    assert sum(row[: len(want)].tolist() == want for row, want in zip(ids, wanted, strict=True)) >= 22
    feeds |= {
        "num_beams": np.array(3),
        "length_penalty": np.ones(len(source), np.float32),
        "early_stopping": np.array(0),
    }
    ids, scores = onnxruntime.InferenceSession(str(paths["generate_beams"])).run(None, feeds)
    best = [hypotheses[0] for hypotheses in beam_search(model, PLAIN, source, mask, num_beams=3, max_new_tokens=12)]
    same = [row[0][: len(want.tokens)].tolist() == want.tokens for row, want in zip(ids, best, strict=True)]
    assert sum(same) >= 21 and scores.dtype == np.float32
    gaps = [abs(float(row[0]) - want.score) for row, want, is_same in zip(scores, best, same, strict=True) if is_same]
    assert max(gaps) < 0.05
