"""The parity check accepts near-ties and refuses every other difference."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from compressor.decoding.search import greedy, pad_sources
from compressor.errors import ExportError
from compressor.exporters.checks import parity
from compressor.exporters.checks.dev_set import evenly_spaced
from compressor.models.base import Seq2SeqModel
from tests.exporters.conftest import PLAIN

SOURCES = [[4, 9, 2, 0], [8, 0], [30, 31, 32, 33, 34, 0]]


def outputs_of(model: Seq2SeqModel) -> list[list[int]]:
    return greedy(model, PLAIN, *pad_sources(SOURCES, 60))


def test_identical_outputs_have_no_differences(model: Seq2SeqModel) -> None:
    assert parity._torch_differences(model, PLAIN, SOURCES, outputs_of(model)) == []


def test_different_token_is_refused(model: Seq2SeqModel) -> None:
    outputs = outputs_of(model)
    outputs[1][0] = (outputs[1][0] + 1) % 50
    with pytest.raises(ExportError, match=r"on 1 of 3 dev sources: token 1 of source 2"):
        parity._torch_differences(model, PLAIN, SOURCES, outputs)


def test_shorter_output_is_refused(model: Seq2SeqModel) -> None:
    outputs = outputs_of(model)
    outputs[0] = outputs[0][:-1]
    with pytest.raises(ExportError, match="instead of"):
        parity._torch_differences(model, PLAIN, SOURCES, outputs)


def test_near_tie_is_reported_with_its_gap(model: Seq2SeqModel, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = outputs_of(model)
    before, after = outputs[2][1], 45
    outputs[2] = [outputs[2][0], after, 0]

    def tied(*args: Any) -> torch.Tensor:
        logits = torch.zeros(600)
        logits[before], logits[after] = 3.0, 3.0 - 5e-5
        return logits

    monkeypatch.setattr(parity, "torch_logits", tied)
    (difference,) = parity._torch_differences(model, PLAIN, SOURCES, outputs)
    assert (difference.source, difference.position, difference.tokens) == (2, 1, (before, after))
    assert difference.gap == pytest.approx(5e-5, rel=0.01)


def test_too_many_batch_dependent_outputs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "graph_logits", lambda *args: torch.arange(50) / 100)
    alone = [[5, 6, 0]] * 2000
    moved = {1: alone, 8: alone, 32: [[5, 7, 0], [9, 0], [5, 8, 0], *alone[3:]]}
    differences = parity._batch_differences(SimpleNamespace(), alone, moved)  # type: ignore[arg-type]
    assert [(d.source, d.position, d.batch_size) for d in differences] == [(0, 1, 32), (1, 0, 32), (2, 1, 32)]
    assert differences[1].gap == pytest.approx(0.04)
    parity._refuse_batch_dependence({"int8": differences[:2]}, 2000)
    with pytest.raises(ExportError, match=r"int8: the outputs of 3 of 2000 dev sources depend on their batch"):
        parity._refuse_batch_dependence({"int8": differences}, 2000)
    with pytest.raises(ExportError, match=r"fp32: the outputs of 1 of 2000 .*0.04 apart.*within 0.0001"):
        parity._refuse_batch_dependence({"fp32": differences[1:2]}, 2000)


@pytest.mark.parametrize(("count", "limit"), [(5, 10), (10, 10), (1001, 1000), (7, 3)])
def test_evenly_spaced_indices_cover_the_range(count: int, limit: int) -> None:
    chosen = evenly_spaced(count, limit)
    assert len(chosen) == len(set(chosen)) == min(count, limit)
    assert chosen[0] == 0 and max(chosen) < count
    assert max(b - a for a, b in itertools.pairwise(chosen)) <= count // limit + 1
