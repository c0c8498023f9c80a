"""Graphs of a recurrent decoder: tokens and scores of PyTorch's searches, alone and in batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compressor.decoding.search import beam_search, greedy
from compressor.exporters.graphs.search_loop import build_graphs
from compressor.generation_config import until_eos
from tests.exporters.graphs.test_beams import feeds, sessions
from tests.models.test_contract import lively
from tests.models.test_transformer import EOS, PAD, RULES, sources

pytestmark = pytest.mark.slow  # a minute of tracing; test_contract.py has every architecture in the default suite


@pytest.fixture(scope="module", params=["ssru", "sru"])
def net(request: pytest.FixtureRequest) -> Any:
    return lively(request.param)


@pytest.fixture(scope="module")
def graphs(net: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return sessions(build_graphs(net, RULES), tmp_path_factory.mktemp("recurrent"))


def generated(graph: Any, source: torch.Tensor, mask: torch.Tensor, num_beams: int) -> list[Any]:
    names = {given.name for given in graph.get_inputs()}
    given = feeds(source, mask, source[:, :0], num_beams=num_beams)
    outputs: list[Any] = graph.run(None, {name: value for name, value in given.items() if name in names})
    return outputs


@pytest.mark.parametrize("batch", [1, 16])
def test_greedy_tokens_are_those_of_pytorch(net: Any, graphs: dict[str, Any], batch: int) -> None:
    source, mask = sources(batch)
    (ids,) = generated(graphs["generate"], source, mask, 1)
    assert [until_eos(row, EOS, PAD) for row in ids.tolist()] == greedy(net, RULES, source, mask)


def test_factorised_matrices_are_exported(tmp_path: Path) -> None:
    model, (source, mask) = lively("sru", projection=8), sources(16)
    (ids,) = generated(sessions(build_graphs(model, RULES), tmp_path)["generate"], source, mask, 1)
    assert [until_eos(row, EOS, PAD) for row in ids.tolist()] == greedy(model, RULES, source, mask)


@pytest.mark.parametrize("num_beams", [2, 5])
def test_beams_and_scores_are_those_of_pytorch(net: Any, graphs: dict[str, Any], num_beams: int) -> None:
    source, mask = sources(16)
    ids, scores = generated(graphs["generate_beams"], source, mask, num_beams)
    expected = beam_search(net, RULES, source, mask, num_beams=num_beams, num_return=num_beams)
    outputs = [[until_eos(row, EOS, PAD) for row in rows] for rows in ids.tolist()]
    assert outputs == [[beam.tokens for beam in row] for row in expected]
    wanted = [[beam.score for beam in row] for row in expected]
    np.testing.assert_allclose(scores, np.array(wanted), atol=1e-4, rtol=0)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_an_output_does_not_depend_on_its_batch(graphs: dict[str, Any], num_beams: int) -> None:
    source, mask = sources(16)
    graph = graphs["generate" if num_beams == 1 else "generate_beams"]
    together = generated(graph, source, mask, num_beams)[0].reshape(16, num_beams, -1)
    lengths = set()
    for row in range(16):
        part, width = slice(row, row + 1), int(mask[row].sum())
        alone = generated(graph, source[part, :width], mask[part, :width], num_beams)[0].reshape(num_beams, -1)
        for one, other in zip(together[row].tolist(), alone.tolist(), strict=True):
            assert until_eos(one, EOS, PAD) == until_eos(other, EOS, PAD)
        lengths.add(len(until_eos(alone[0].tolist(), EOS, PAD)))
    assert len(lengths) > 3  # the batch did shrink


def test_the_state_of_a_step_has_one_size(net: Any, graphs: dict[str, Any]) -> None:
    width = {"ssru": 16, "sru": 20}[net.config.architecture]
    shapes = {given.name: given.shape for given in graphs["decoder_step"].get_inputs() if given.name.startswith("cell")}
    assert shapes == {"cell_0": ["batch", 1, width], "cell_1": ["batch", 1, width]}
