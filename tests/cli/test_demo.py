"""``compress demo``: both tasks from nothing to a table, with corpora and models made small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compressor import cli
from compressor.cli.folders import describe

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("task", ["translation", "summarization"])
def test_demo_trains_exports_and_measures(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = [
        f"data.train=[{{synthetic: {task}, size: 400}}]",
        f"data.dev=[{{synthetic: {task}, synthetic_split: dev, size: 20}}]",
        "tokenizer.vocab_size=300",
        "training.epochs=null",
        "training.updates=8",
        "training.eval_every=8",
    ]
    settings = [word for setting in small for word in ("--set", setting)]
    with pytest.raises(SystemExit) as stopped:
        cli.main(["demo", "--task", task, "--out", str(tmp_path / "demo"), "--test-size", "8", *settings])
    assert stopped.value.code == 0
    table = capsys.readouterr().out
    rows = json.loads((tmp_path / "demo" / "results.json").read_text())["results"][task]["rows"]
    kinds = {(row["model"], row["engine"], row["precision"]) for row in rows}
    assert {("student", "onnx", "fp32"), ("student", "onnx", "int8"), ("student", "torch", "fp32")} <= kinds
    assert {"teacher", "student, no teacher"} <= {row["model"] for row in rows}
    assert all(f"{row['parameters']:,}" in table for row in rows)
    folders = {name: describe(tmp_path / "demo" / task / name)["kind"] for name in ("teacher", "student", "bundle")}
    assert folders == {"teacher": "run", "student": "run", "bundle": "bundle"}
