"""The cost of the recurrences, measured on a few numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.reports.small_tables import scan_cost as table_of
from benchmarks.training import scan_cost
from compressor.errors import ConfigError

SIZES = ["--batch", "2", "--length", "4", "--width", "3", "--repeats", "2"]


def test_implementations_take_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scan-cost", *SIZES, "--json", str(tmp_path / "out.json")]) == 0
    table = json.loads((tmp_path / "out.json").read_text())
    names = [scan_cost.OWN, scan_cost.LOOP]
    assert [(row["student"], row["implementation"]) for row in table["rows"]] == [
        (student, name) for student in ("sru", "ssru") for name in names
    ]
    assert all(row["ratio"] == 1 for row in table["rows"] if row["implementation"] == scan_cost.OWN)
    assert all(0 < row["p50_ms"] <= row["p90_ms"] for row in table["rows"])
    assert "2 x 4 x 3 numbers" in table_of(table) and "| sru | loop, autograd |" in table_of(table)
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_another_recurrence_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_first(forget: torch.Tensor, update: torch.Tensor) -> torch.Tensor:
        return update * forget

    monkeypatch.setitem(scan_cost.RECURRENCES, "ssru", (without_first, scan_cost.ssru_loop))
    with pytest.raises(ConfigError, match="ssru, gradient written out: its gradients are not those of the loop"):
        scan_cost.scan_cost(2, 4, 3, repeats=1)
