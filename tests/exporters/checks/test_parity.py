"""What the parity check excuses, and what it does not."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from compressor.decoding.search import greedy, pad_sources
from compressor.errors import ExportError
from compressor.exporters.checks import parity
from compressor.exporters.checks.dev_set import spread
from compressor.models.base import Seq2SeqModel
from tests.exporters.conftest import PLAIN

SOURCES = [[4, 9, 2, 0], [8, 0], [30, 31, 32, 33, 34, 0]]


def outputs_of(model: Seq2SeqModel) -> list[list[int]]:
    return greedy(model, PLAIN, *pad_sources(SOURCES, 60))


def test_identical_outputs_pass(model: Seq2SeqModel) -> None:
    assert parity._against_torch(model, PLAIN, SOURCES, outputs_of(model)) == []


def test_another_token_fails_the_export(model: Seq2SeqModel) -> None:
    found = outputs_of(model)
    found[1][0] = (found[1][0] + 1) % 50
    with pytest.raises(ExportError, match=r"on 1 of 3 dev sources: token 1 of source 2"):
        parity._against_torch(model, PLAIN, SOURCES, found)


def test_a_shorter_output_fails_the_export(model: Seq2SeqModel) -> None:
    found = outputs_of(model)
    found[0] = found[0][:-1]
    with pytest.raises(ExportError, match="instead of"):
        parity._against_torch(model, PLAIN, SOURCES, found)


def test_a_near_tie_is_listed_with_its_gap(model: Seq2SeqModel, monkeypatch: pytest.MonkeyPatch) -> None:
    found = outputs_of(model)
    before, after = found[2][1], 45
    found[2] = [found[2][0], after, 0]

    def tied(*args: Any) -> torch.Tensor:
        logits = torch.zeros(600)
        logits[before], logits[after] = 3.0, 3.0 - 5e-5
        return logits

    monkeypatch.setattr(parity, "torch_logits", tied)
    (difference,) = parity._against_torch(model, PLAIN, SOURCES, found)
    assert (difference.source, difference.position, difference.tokens) == (2, 1, (before, after))
    assert difference.gap == pytest.approx(5e-5, rel=0.01)


def test_outputs_that_move_with_the_batch_are_found_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "graph_logits", lambda *args: torch.arange(50) / 100)
    alone = [[5, 6, 0]] * 2000
    moved = {1: alone, 8: alone, 32: [[5, 7, 0], [9, 0], [5, 8, 0], *alone[3:]]}
    differences = parity._batch_differences(SimpleNamespace(), alone, moved)  # type: ignore[arg-type]
    assert [(d.source, d.position, d.batch_size) for d in differences] == [(0, 1, 32), (1, 0, 32), (2, 1, 32)]
    assert differences[1].gap == pytest.approx(0.04)
    parity._refuse_dependence({"int8": differences[:2]}, 2000)
    with pytest.raises(ExportError, match=r"int8: the outputs of 3 of 2000 dev sources depend on their batch"):
        parity._refuse_dependence({"int8": differences}, 2000)
    with pytest.raises(ExportError, match=r"fp32: the outputs of 1 of 2000 .*0.04 apart.*within 0.0001"):
        parity._refuse_dependence({"fp32": differences[1:2]}, 2000)


@pytest.mark.parametrize(("count", "limit"), [(5, 10), (10, 10), (1001, 1000), (7, 3)])
def test_sources_are_spread_over_the_dev_set(count: int, limit: int) -> None:
    chosen = spread(count, limit)
    assert len(chosen) == len(set(chosen)) == min(count, limit)
    assert chosen[0] == 0 and max(chosen) < count
    assert max(b - a for a, b in itertools.pairwise(chosen)) <= count // limit + 1
