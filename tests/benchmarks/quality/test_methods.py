"""The comparison of methods: names, scores against sacreBLEU, gains over Vanilla, and outputs that are written once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
import torch
import yaml

import compressor
from benchmarks.__main__ import main
from benchmarks.quality import scored_runs
from compressor.config import parse_recipe
from compressor.decoding.search import greedy, pad_sources
from compressor.models.weights import load_run
from compressor.run_comparison import compare_runs
from compressor.run_folder import read_record
from tests.test_config import MINIMAL

KEYS = {
    *("student", "method", "data", "seed", "parameters", "updates", "seconds", "num_beams", "test_set", "dev_score"),
    *("test_bleu", "test_chrf", "ci95", "delta_vs_vanilla", "delta_ci95", "teacher_agreement"),
}


@pytest.fixture(scope="module")
def student(tiny_recipe: Path, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student that is worse than the tiny model."""
    values = yaml.safe_load(tiny_recipe.read_text(encoding="utf-8"))
    values |= {"teacher": {"path": str(tiny_run)}, "method": {"name": "imitkd+full"}}
    values["training"] |= {"updates": 40, "eval_every": 20}
    return compressor.distill(parse_recipe(values), tmp_path_factory.mktemp("runs") / "student", progress=False)


def arguments(teacher: Path, runs: list[str], corpus: Path, out: Path, task: str = "de-en") -> list[str]:
    """A command line with dev data as the test set."""
    chosen = [argument for run in runs for argument in ("--run", run)]
    files = ["--test", f"small={corpus / 'dev.de'},{corpus / 'dev.en'}", "--outputs", str(out / "outputs")]
    return ["methods", "--task", task, "--teacher", str(teacher), *chosen, *files, "--json", str(out / "table.json")]


def test_students_are_scored_beside_vanilla(
    tiny_run: Path, student: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = arguments(tiny_run, [str(tiny_run), f"other={student}", str(student)], tiny_corpus, tmp_path)
    assert main(command) == 0
    table = json.loads((tmp_path / "table.json").read_text())
    (task,) = table["tasks"]
    vanilla, row, labelled = task["rows"]
    assert set(row) == KEYS
    assert {one["method"] for one in task["rows"]} == {"vanilla", "other", "imitkd+full"}

    sources, references = ((tiny_corpus / f"dev.{side}").read_text().splitlines() for side in ("de", "en"))
    scores = {run: sacrebleu.corpus_bleu(translated(run, sources), [references]).score for run in (tiny_run, student)}
    assert vanilla["test_bleu"] == pytest.approx(scores[tiny_run], abs=0.006)
    assert row["test_bleu"] == pytest.approx(scores[student], abs=0.006)
    assert row["delta_vs_vanilla"] == pytest.approx(scores[student] - scores[tiny_run], abs=0.011)
    assert row["delta_ci95"][0] <= row["delta_vs_vanilla"] <= row["delta_ci95"][1]
    assert vanilla["delta_vs_vanilla"] is None and vanilla["delta_ci95"] is None
    assert labelled == row | {"method": "other"}
    record = read_record(student)
    assert (row["updates"], row["parameters"], row["seconds"]) == (40, record.parameters, record.seconds)
    assert record.dev is not None and row["dev_score"] == record.dev.bleu
    assert vanilla["teacher_agreement"] == 1.0  # it is the teacher
    assert row["teacher_agreement"] == pytest.approx(
        agreement(tiny_run, sources, translated(student, sources)), abs=1e-4
    )
    teacher = task["teacher"]["scores"]["small"]
    assert teacher["num_beams"] == 5 and teacher["greedy"] == vanilla["test_bleu"]

    copy = tmp_path / "outputs" / "transformer-imitkd+full-1"
    (before,), (after,) = compare_runs([student]), compare_runs([copy])
    assert after == replace(before, run=str(copy))
    assert str(tmp_path.parent) not in (copy / "recipe.yaml").read_text()

    def refuse(*_: object) -> None:
        raise AssertionError("the outputs are there")

    monkeypatch.setattr(scored_runs, "evaluate", refuse)
    assert main(arguments(tiny_run, [], tiny_corpus, tmp_path, task="again")) == 0
    tasks = json.loads((tmp_path / "table.json").read_text())["tasks"]
    assert [one["task"] for one in tasks] == ["de-en", "again"] and tasks[1]["rows"] == tasks[0]["rows"] == task["rows"]


def test_a_test_set_without_outputs_wants_the_weights(
    tiny_run: Path, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tiny_run, [str(tiny_run)], tiny_corpus, tmp_path)) == 0
    shorter = [tmp_path / f"shorter.{side}" for side in ("de", "en")]
    for path in shorter:
        lines = (tiny_corpus / f"dev{path.suffix}").read_text().splitlines(keepends=True)
        path.write_text("".join(lines[:-1]))
    command = arguments(tiny_run, [], tiny_corpus, tmp_path)
    command[command.index("--test") + 1] = f"small={shorter[0]},{shorter[1]}"
    capsys.readouterr()
    assert main(command) != 0
    assert "transformer-vanilla-1: no outputs for small, and no weights" in capsys.readouterr().err


def translated(run: Path, sources: list[str]) -> list[str]:
    """Greedy outputs in PyTorch."""
    loaded = load_run(run)
    batch = pad_sources([loaded.tokenizer.encode_source(text) for text in sources], loaded.generation.pad_id)
    return [loaded.tokenizer.decode(tokens) for tokens in greedy(loaded.model, loaded.generation, *batch)]


def agreement(teacher: Path, sources: list[str], outputs: list[str]) -> float:
    """The share of the outputs' tokens that the teacher writes after the tokens before them, one prefix at a time."""
    loaded = load_run(teacher)
    start, same = loaded.generation.start_id, []
    for source, output in zip(sources, outputs, strict=True):
        ids, mask = pad_sources([loaded.tokenizer.encode_source(source)], loaded.generation.pad_id)
        tokens = loaded.tokenizer.encode_target(output)
        for place, token in enumerate(tokens):
            features = loaded.model(ids, mask, torch.tensor([[start, *tokens[:place]]]))
            logits = loaded.model.project(features[0, -1:])[0]
            logits[list(loaded.generation.suppressed_ids)] = -torch.inf
            same.append(int(logits.argmax()) == token)
    return sum(same) / len(same)


@pytest.mark.parametrize("changed", ["model.safetensors", "model.json", "tokenizer/sentencepiece.model"])
def test_outputs_are_written_anew_when_what_they_depend_on_changes(tmp_path: Path, changed: str) -> None:
    for name in ("model.safetensors", "model.json", "tokenizer/sentencepiece.model", "metrics.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("before")
    before = scored_runs.model_digest(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("after")
    assert scored_runs.model_digest(tmp_path) == before
    (tmp_path / changed).write_text("after")
    assert scored_runs.model_digest(tmp_path) != before


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ({"name": "seqkd+full"}, "seqkd+full"),
        ({"name": "imitkd", "contexts": "teacher"}, "imitkd*"),
        ({"name": "imitkd+full", "contexts": "teacher", "divergence": "reverse_kl"}, "imitkd*+full, reverse_kl"),
        ({"name": "imitkd+full", "temperature": 2.0}, "imitkd+full, temperature 2.0"),
        ({"name": "imitkd", "rollout": {"replay": 0.5}}, "imitkd, replay 0.5"),
        ({"name": "imitkd", "rollout": {"strategy": "speculative"}}, "imitkd, speculative"),
    ],
)
def test_methods_are_named_as_in_the_paper(method: dict[str, Any], name: str) -> None:
    assert scored_runs.method_of(parse_recipe(MINIMAL | {"method": method})) == name


def test_mistakes_are_one_line(
    tiny_run: Path, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tiny_run, [str(tmp_path)], tiny_corpus, tmp_path)) != 0
    assert main(arguments(tmp_path / "absent", [str(tiny_run)], tiny_corpus, tmp_path)) != 0
    assert capsys.readouterr().err.count("\n") == 2
    assert not (tmp_path / "table.json").exists()
