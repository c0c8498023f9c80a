"""An output that moves with its batch is found, and none is where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from compressor.runtime.generator import Generator
from compressor.runtime.results import ScoredTokens

TEXTS = ["a b c", "", *(f"{'d ' * (number % 7 + 1)}e" for number in range(40))]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "texts"
    path.write_text("".join(f"{text}\n" for text in TEXTS), encoding="utf-8")
    return path


def test_a_bundle_says_the_same_alone_and_in_any_batch(
    tiny_bundle: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    arguments = [str(tiny_bundle), "--source", str(source), "--sentences", "33", "--json", str(out)]
    assert main(["independence", *arguments, "--precision", "fp32"]) == 0
    assert "fp32             beams 5  batch 32  0 of 33 moved" in capsys.readouterr().out
    rows = json.loads(out.read_text())["rows"]
    assert [(row["num_beams"], row["batch_size"]) for row in rows] == [(1, 8), (1, 32), (5, 8), (5, 32)]
    assert main(["independence", *arguments, "--precision", "fp8"]) == 2
    assert "--precision fp8: this bundle has fp32" in capsys.readouterr().err


def test_what_moves_is_told_with_both_outputs(
    tiny_bundle: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search(self: Generator, sources: list[list[int]], **options: Any) -> list[list[ScoredTokens]]:
        """The third of 32 texts comes out as one token more."""
        outputs = [[ScoredTokens([*ids, 0], -1.0)] for ids in sources]
        if len(sources) == 32:
            outputs[2] = [ScoredTokens([*sources[2], 7, 0], -1.5)]
        return outputs

    monkeypatch.setattr(Generator, "search_ids", search)
    out = tmp_path / "out.json"
    arguments = [str(tiny_bundle), "--source", str(source), "--precision", "fp32", "--json", str(out)]
    assert main(["independence", *arguments]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [row["moved"] for row in rows] == [0, 1, 0, 1]
    (exception,) = rows[1]["exceptions"]
    assert exception["source"] == 2
    assert exception["together"] == {"token_ids": [*exception["alone"]["token_ids"][:-1], 7, 0], "score": -1.5}
