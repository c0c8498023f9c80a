"""A shortlist in the graph against Hugging Face `generate` with the same tokens allowed; and what it is learned from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from compressor.exporters.cooccurrence import Cooccurrence, learn
from compressor.exporters.onnx import build_graphs
from compressor.generation import until_eos
from compressor.models.marian import to_marian
from tests.exporters.test_beams import GENERATION, feeds, generated
from tests.models.test_transformer import EOS, PAD, VOCAB, model, sources

ALWAYS, LIKELY = 16, 3


@pytest.fixture(scope="module")
def net() -> Any:
    built = model()
    with torch.no_grad():
        built.output_bias[EOS] += 5.0  # outputs end, and at different lengths
    return built


@pytest.fixture(scope="module")
def learned() -> Cooccurrence:
    chance = np.random.default_rng(7)
    pairs = [(chance.integers(1, VOCAB - 1, 9), chance.integers(0, VOCAB - 1, 9)) for _ in range(300)]
    return learn(pairs, VOCAB, EOS, frequent=ALWAYS, likely=LIKELY)


@pytest.fixture(scope="module")
def graphs(net: Any, learned: Cooccurrence, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("shortlist")
    sessions = {}
    for name, graph in build_graphs(net, GENERATION, learned).items():
        ir.save(graph, folder / f"{name}.onnx")
        sessions[name] = onnxruntime.InferenceSession(folder / f"{name}.onnx")
    return sessions


def penalties(learned: Cooccurrence, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """[batch, vocab]: minus infinity where a source may not write a token, found one by one."""
    found = torch.full((len(ids), VOCAB), -torch.inf)
    for row, source in enumerate(ids):
        tokens = set(learned.always.tolist())
        for token in source[mask[row].bool()].tolist():
            tokens |= set(learned.likely[token].tolist())
        found[row, sorted(tokens - set(GENERATION.suppressed_ids))] = 0.0
    return found


def hugging_face(net: Any, learned: Cooccurrence, given: dict[str, Any], **options: Any) -> Any:
    """`generate` of the same weights, whose output layer has no other tokens than those allowed."""
    ids, mask, prefix = (given[name] for name in ("ids", "mask", "prefix"))
    peer = to_marian(net, GENERATION)
    rows = penalties(learned, ids, mask).repeat_interleave(options.get("num_beams", 3), dim=0)[:, None]
    peer.lm_head.register_forward_hook(lambda module, inputs, logits: logits + rows)
    return generated(peer, ids, mask, prefix, **options)


CASES: list[dict[str, Any]] = [
    {},
    {"num_beams": 7},
    {"length_penalty": 0.0},
    {"early_stopping": True, "max_new_tokens": 25},
    {"min_new_tokens": 6},
    {"no_repeat_ngram_size": 1, "max_new_tokens": 8},
    {"no_repeat_ngram_size": 2, "max_new_tokens": 25},
    {"prefix": 3, "min_new_tokens": 2, "no_repeat_ngram_size": 2, "num_beams": 4},
]


@pytest.mark.parametrize("batch", [1, 9])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_and_scores_are_hugging_faces(
    net: Any, graphs: dict[str, Any], learned: Cooccurrence, case: dict[str, Any], batch: int
) -> None:
    options = dict(case)
    ids, mask = sources(batch)
    prefix = torch.randint(1, VOCAB - 1, (batch, options.pop("prefix", 0)), generator=torch.Generator().manual_seed(4))
    expected = hugging_face(net, learned, {"ids": ids, "mask": mask, "prefix": prefix}, **options)
    found, scores = graphs["generate_beams"].run(["output_ids", "scores"], feeds(ids, mask, prefix, **options))
    wanted = [until_eos(row, EOS, PAD) for row in expected.sequences[:, 1:].tolist()]
    assert [until_eos(row, EOS, PAD) for row in found.reshape(len(wanted), -1).tolist()] == wanted
    np.testing.assert_allclose(scores.reshape(-1), expected.sequences_scores.numpy(), atol=1e-4, rtol=0)
