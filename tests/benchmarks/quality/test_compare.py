"""The quality list: who is scored on what, and a score against sacreBLEU on outputs made here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sacrebleu

from benchmarks.__main__ import main
from compressor.decoding.search import greedy, pad_sources
from compressor.models.weights import load_run

KEYS = {
    *("method", "data", "parameters", "updates", "seconds", "seed", "num_beams", "precision", "test_set"),
    *("dev_bleu", "test_bleu", "test_chrf", "signature"),
}


def test_every_model_is_scored_on_every_set(
    tiny_run: Path, tiny_bundle: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    files = [tiny_corpus / "train.de", tiny_corpus / "train.en"]
    sources, references = (path.read_text(encoding="utf-8").splitlines()[:30] for path in files)
    (tmp_path / "test.de").write_text("".join(f"{line}\n" for line in sources))
    (tmp_path / "test.en").write_text("".join(f"{line}\n" for line in references))
    table = tmp_path / "table.json"
    table.write_text('{"rows": [{"earlier": true}]}')
    tests = [f"--test=small={tmp_path / 'test.de'},{tmp_path / 'test.en'}"]
    tests += [f"--test=dev={tiny_corpus / 'dev.de'},{tiny_corpus / 'dev.en'}"]
    models = ["--teacher", str(tiny_run), "--run", str(tiny_run), "--bundle", str(tiny_bundle)]
    assert main(["compare", *models, *tests, "--json", str(table), "--threads", "1"]) == 0
    done = json.loads(table.read_text())
    assert done["rows"] == [{"earlier": True}]
    quality = done["quality"]
    assert all(set(row) == KEYS for row in quality)
    scored = [(row["method"], row["precision"], row["num_beams"], row["test_set"]) for row in quality]
    contenders = [("teacher", "fp32", 1), ("teacher", "fp32", 5), ("vanilla", "fp32", 1), ("vanilla", "int8", 1)]
    assert scored == [(*one, name) for one in contenders for name in ("small", "dev")]
    assert all(row["dev_bleu"] == row["test_bleu"] for row in quality if row["test_set"] == "dev")

    run = load_run(tiny_run)
    batch = pad_sources([run.tokenizer.encode_source(text) for text in sources], run.generation.pad_id)
    texts = [run.tokenizer.decode(tokens) for tokens in greedy(run.model, run.generation, *batch)]
    student = next(row for row in quality if row["method"] == "vanilla" and row["precision"] == "fp32")
    assert student["test_bleu"] == pytest.approx(sacrebleu.corpus_bleu(texts, [references]).score)
    assert student["updates"] == run.record.updates and student["data"] == "references"


def test_mistakes_are_one_line(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--teacher", str(tiny_run), "--json", str(tmp_path / "table.json"), "--test", "x=a,b"]
    assert main(["compare", *options, "--run", str(tmp_path)]) != 0
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "table.json").exists()
