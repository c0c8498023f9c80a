"""Training throughput on the tiny run as its own teacher: what is counted, not how fast it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.training.throughput import peak_alone, throughput
from compressor.errors import CompressError, ConfigError
from compressor.method_table import METHODS
from compressor.text.tokenizer import load_tokenizer

SMALL = ["training.batch_tokens=6000", "method.rollout.batches=1"]


def test_all_methods_and_transformers_count_the_same_target_tokens(
    tiny_recipe: Path, tiny_corpus: Path, tiny_run: Path
) -> None:
    table = throughput(
        tiny_recipe, [f"teacher.path={tiny_run}", *SMALL], run=tiny_run, groups=1, repeats=1, progress=False
    )
    rows = {row["name"]: row for row in table["rows"]}
    assert list(rows) == [*METHODS, "MarianMT", "rollout"]
    tokenizer = load_tokenizer(tiny_run / "tokenizer")
    lines = (tiny_corpus / "train.en").read_text(encoding="utf-8").splitlines()
    lengths = [len(tokenizer.encode_target(line)) for line in lines]
    expected = sum(length for length in lengths if length <= 24)  # one group has the whole corpus
    counted = {row["tokens"] for name, row in rows.items() if not name.startswith("imitkd") and name != "rollout"}
    assert counted == {expected}
    assert rows["imitkd"]["beta"] == 0.0 and rows["vanilla"]["beta"] is None
    for name in METHODS:
        rate = rows[name]["tokens_per_s"] / rows["MarianMT"]["tokens_per_s"]
        assert rows[name]["ratio"] == pytest.approx(rate, rel=0.02, abs=0.02)
    assert table["settings"]["threads"] == 1 and table["settings"]["peak_mb"] > 0
    json.dumps(table, allow_nan=False)


def test_without_a_teacher_only_vanilla_is_measured(
    tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "result.json"
    changes = [f"--set={change}" for change in SMALL]
    arguments = ["training-throughput", str(tiny_recipe), *changes, "--groups", "1", "--repeats", "1", "--no-memory"]
    assert main([*arguments, "--json", str(out)]) == 0
    assert [row["name"] for row in json.loads(out.read_text())["rows"]] == ["vanilla", "MarianMT", "rollout"]
    assert "target tokens/s" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="'seqkd' is not one of vanilla, MarianMT, rollout"):
        throughput(tiny_recipe, only=["seqkd"])


@pytest.mark.slow
def test_memory_is_that_of_a_process_of_its_own(tiny_recipe: Path) -> None:
    changes = [f"--set={change}" for change in SMALL]
    assert 100 < peak_alone("MarianMT", [str(tiny_recipe), *changes, "--groups=1"]) < 2000
    with pytest.raises(CompressError, match=r"MarianMT alone failed: error: .*no such recipe"):
        peak_alone("MarianMT", ["absent.yaml"])
