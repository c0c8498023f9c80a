"""``compress runs`` on folders written by hand, and on a real run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from compressor import cli, errors
from compressor.cli.errors import EXIT_CODES
from compressor.config import Recipe, dump_recipe, load_recipe
from compressor.run_folder import DevScores, RunRecord


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["runs", *(str(argument) for argument in arguments)])
    return int(stopped.value.code or 0)


def write(folder: Path, lines: list[dict[str, object]], record: RunRecord | None, recipe: Recipe | None) -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    if record is not None:
        (folder / "run.json").write_text(record.model_dump_json())
    if recipe is not None:
        (folder / "recipe.yaml").write_text(dump_recipe(recipe))
    return folder


@pytest.fixture
def runs(tmp_path: Path, tiny_recipe: Path) -> Path:
    """A folder with a finished run, one that ended early, and one that was killed before its first dev score."""
    recipe, folder = load_recipe(tiny_recipe), tmp_path / "runs"
    losses = [{"update": n, "loss": float(n), "target_tokens": 100 * n, "seconds": 2.0 * n} for n in range(1, 31)]
    dev = [{"update": 15, "dev": {"bleu": 11.5}, "target_tokens": 1500, "seconds": 30.0, "agreement": 0.25},
           {"update": 30, "dev": {"bleu": 12.5}, "target_tokens": 3000, "seconds": 60.0, "agreement": 0.5},
           {"update": 30, "dev": {"bleu": 13.0}, "target_tokens": 3000, "averaged": [15, 30]}]  # fmt: skip
    scores = DevScores(bleu=13.0)
    whole = RunRecord(finished=True, method="vanilla", parameters=31234, updates=30, best_update=30, seconds=61.0,
                      target_tokens=3000, target_tokens_per_second=50.0, dev=scores)  # fmt: skip
    write(folder / "b-whole", [*losses, *dev], whole, recipe)
    early = RunRecord(finished=True, stopped_early=True, updates=4, dev=DevScores(rouge1=0.0), best_update=2)
    write(folder / "c-early", [{"update": 4, "dev": {"rouge1": 0.0}, "seconds": 1.0}], early, None)
    killed = write(folder / "a-killed", losses[:3], None, None)
    with (killed / "metrics.jsonl").open("a") as stream:
        stream.write('{"update": 4, "lo')
    return folder


def test_runs_are_compared_in_json(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(runs / "b-whole", runs, "--json") == 0
    whole, killed, again, early = json.loads(capsys.readouterr().out)
    assert whole == again == {
        "run": str(runs / "b-whole"), "method": "vanilla", "student": "transformer 1+1, 32", "parameters": 31234,
        "updates": 30, "target_tokens": 3000, "seconds": 61.0, "dev_score": 13.0, "best_update": 30, "agreement": 0.5,
        "final_loss": sum(range(11, 31)) / 20, "target_tokens_per_second": 50.0, "state": "finished",
        "dev_curve": [[1500, 11.5], [3000, 12.5]],
    }  # fmt: skip
    assert (killed["state"], killed["updates"], killed["target_tokens"], killed["seconds"]) == ("stopped", 3, 300, 6.0)
    assert killed["final_loss"] == 2.0 and killed["dev_score"] is None and killed["method"] is None
    assert (early["state"], early["dev_score"], early["final_loss"]) == ("stopped early", 0.0, None)


def test_runs_are_compared_in_a_table(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(runs) == 0
    head, killed, whole, early = (line.split() for line in capsys.readouterr().out.splitlines())
    assert head[:3] == ["run", "method", "student"] and killed[-1] == "stopped" and early[-2:] == ["stopped", "early"]
    assert whole[-9:] == ["31,234", "30", "3,000", "61", "13.00", "0.50", "20.500", "50", "finished"]


def test_dev_curves_are_drawn(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    plot = tmp_path / "curves.svg"
    assert run(runs, "--plot", plot) == 0
    texts = [element.text for element in ElementTree.parse(plot).iter() if element.text and element.text.strip()]
    assert {"target tokens", "dev score", str(runs / "b-whole")} <= set(texts)
    assert str(runs / "a-killed") not in texts
    assert run(runs, "--plot", plot) == EXIT_CODES[errors.OutputExistsError]
    assert run(runs, "--plot", plot, "--force") == 0
    capsys.readouterr()
    assert run(runs / "a-killed", "--plot", tmp_path / "none.svg") == EXIT_CODES[errors.DataError]
    assert "no run has a dev score" in capsys.readouterr().err and not (tmp_path / "none.svg").exists()
    assert run(runs, "--plot", tmp_path / "curves.pdf") == EXIT_CODES[errors.ConfigError]


def test_runs_in_subfolders_are_compared_too(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ssru/vanilla", "transformer/vanilla"):
        shutil.copytree(tiny_run, tmp_path / name)
    (tmp_path / "labels").mkdir()
    assert run(tmp_path, "--json") == 0
    assert [Path(row["run"]).parent.name for row in json.loads(capsys.readouterr().out)] == ["ssru", "transformer"]


def test_a_real_run_fills_every_column(tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tiny_run, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert [name for name, value in row.items() if value is None] == ["agreement"]  # it had no teacher
    assert row["dev_score"] == max(score for _, score in row["dev_curve"])


@pytest.mark.parametrize(("name", "message"), [("absent", "no such folder"), ("empty", "neither a run nor a folder")])
def test_folders_without_runs_are_refused(
    tmp_path: Path, name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / name) == EXIT_CODES[errors.ModelError]
    assert message in capsys.readouterr().err


def test_a_damaged_curve_is_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = runs / "b-whole/metrics.jsonl"
    path.write_text("nonsense\n" + path.read_text())
    assert run(runs) == EXIT_CODES[errors.ModelError]
    assert "metrics.jsonl: line 1 is damaged" in capsys.readouterr().err
