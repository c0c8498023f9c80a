"""The comparison of methods as a table and a plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.reports import methods


def row(method: str, test: str, score: float, gain: float | None) -> dict[str, Any]:
    return {
        "student": "sru",
        "method": method,
        "data": "references",
        "seed": 1,
        "parameters": 4_000_000,
        "updates": 900,
        "seconds": 1230.0,
        "dev_score": 31.26,
        "test_set": test,
        "test_bleu": score,
        "delta_vs_vanilla": gain,
        "delta_ci95": None if gain is None else [gain - 0.5, gain + 0.5],
        "teacher_agreement": score / 50,
    }


@pytest.fixture
def table() -> dict[str, Any]:
    scores = {test: {"num_beams": 5, "test_bleu": 44.44, "greedy": 43.0} for test in ("news", "talks")}
    rows = [row("vanilla", "news", 30.0, None), row("imitkd", "news", 31.5, 1.5), row("vanilla", "talks", 20.0, None)]
    task = {"task": "de-en", "teacher": {"parameters": 15_000_000, "scores": scores}, "rows": rows, "provenance": {}}
    return {"provenance": {}, "tasks": [task]}


def test_test_sets_stand_side_by_side(table: dict[str, Any]) -> None:
    lines = [line for line in methods.markdown(table).splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0][-3:] == ["news BLEU", "talks BLEU", "agreement"]
    by_method = {line[1]: line for line in cells[2:]}
    assert by_method["greedy"][-3:] == ["43.0", "43.0", "–"] and by_method["5 beams"][-3:] == ["44.4", "44.4", "–"]
    assert by_method["vanilla"][-3:] == ["30.0", "20.0", "50.0%"]
    assert by_method["imitkd"][-3:] == ["31.5 (+1.5: +1.0 to +2.0)", "–", "63.0%"]
    assert by_method["imitkd"][:-3] == ["sru", "imitkd", "references", "1", "4,000,000", "900", "20", "31.3"]


def test_plot_names_runs_with_a_gain(table: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text(json.dumps(table))
    assert main(["report", str(tmp_path / "table.json"), "--plot", str(tmp_path / "plot.svg")]) == 0
    drawing = (tmp_path / "plot.svg").read_text()
    assert "sru imitkd 1" in drawing and "de-en, news: BLEU over vanilla" in drawing
