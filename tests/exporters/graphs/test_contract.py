"""The graphs of every architecture write the tokens of PyTorch's searches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

from compressor.decoding.search import beam_search, greedy
from compressor.exporters.graphs.search_loop import build_graphs
from compressor.generation_config import until_eos
from compressor.model_config import ARCHITECTURES
from tests.exporters.graphs.test_recurrent import generated
from tests.exporters.graphs.test_search_loop import session
from tests.models.test_contract import lively
from tests.models.test_transformer import EOS, PAD, RULES, sources


def _of(architecture: str) -> Any:
    """The recurrent ones run in the slow suite: an export takes half a minute."""
    return pytest.param(architecture, marks=() if architecture == "transformer" else pytest.mark.slow)


@pytest.mark.parametrize("architecture", [_of(name) for name in ARCHITECTURES])
def test_graphs_write_the_tokens_of_pytorch(architecture: str, tmp_path: Path) -> None:
    model, (source, mask) = lively(architecture), sources(8)
    graphs = build_graphs(model, RULES)
    for name in ("generate", "generate_beams"):
        ir.save(graphs[name], tmp_path / f"{name}.onnx")
    greedy_ids = generated(session(tmp_path / "generate.onnx"), source, mask, 1)[0]
    assert [until_eos(row, EOS, PAD) for row in greedy_ids.tolist()] == greedy(model, RULES, source, mask)
    beam_ids = generated(session(tmp_path / "generate_beams.onnx"), source, mask, 3)[0]
    expected = beam_search(model, RULES, source, mask, num_beams=3, num_return=3)
    written = [[until_eos(row, EOS, PAD) for row in rows] for rows in beam_ids.tolist()]
    assert written == [[beam.tokens for beam in beams] for beams in expected]
