"""``compress train``, ``compress distill`` and ``compress demo``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

import compressor
from compressor import cli, errors
from compressor.cli.errors import EXIT_CODES

SHORT = ["--set", "training.updates=4", "--set", "training.eval_every=4"]


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


def test_train_then_distil(
    tiny_recipe: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    advice = ["--set", f"teacher.path={tiny_run}", "--set", "method.name=imitkd+full"]
    assert run("distill", tiny_recipe, *advice, *SHORT, "--out", tmp_path / "student", "--json") == 0
    description = json.loads(capsys.readouterr().out)
    assert (description["kind"], description["method"], description["updates"]) == ("run", "imitkd+full", 4)
    assert description["folder"] == str(tmp_path / "student") and description["teacher"]["parameters"] > 0


def test_train_ignores_the_recipes_teacher(tiny_recipe: Path, tmp_path: Path) -> None:
    advice = ["teacher.path=nowhere", "method.name=imitkd", "training.updates=2"]
    out = compressor.train(tiny_recipe, tmp_path / "alone", overrides=advice, progress=False)
    recipe = yaml.safe_load((out / "recipe.yaml").read_text())
    assert recipe["teacher"] is None and recipe["method"]["name"] == "vanilla"


def test_train_takes_a_recipe_without_a_teacher_and_without_a_method(
    tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = yaml.safe_load(tiny_recipe.read_text())
    del values["method"]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    assert run("train", tmp_path / "recipe.yaml", "--out", tmp_path / "run", *SHORT) == 0
    assert re.search(r"^update 4: dev BLEU \d+\.\d\d \(best\), \d+ s$", capsys.readouterr().err, re.MULTILINE)


def test_dry_run_writes_nothing(
    tiny_recipe: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    advice = ["--set", f"teacher.path={tiny_run}", "--set", "method.name=imitkd", "--set", "student.d_model=16"]
    assert run("distill", tiny_recipe, *advice, "--out", tmp_path / "run", "--dry-run", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["recipe"]["student"]["d_model"] == 16
    plan = printed["estimate"]
    assert 0 < plan["student_parameters"] < plan["teacher_parameters"]
    assert plan["updates"] == 150 and plan["minutes"] >= 0 and plan["memory_mb"] > 0
    assert plan["teacher_outputs_minutes"] is None
    assert run("distill", tiny_recipe, *advice, "--set", "method.contexts=teacher", "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["estimate"]["teacher_outputs_minutes"] >= 0
    assert not (tmp_path / "run").exists()


def test_label_then_distil_without_a_teacher(
    tiny_recipe: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--set", "data.train=[{source: train.de, target: train.en, size: 12}]", "--set", "teacher.num_beams=2"]
    written = [tiny_recipe, *few, "--set", f"teacher.path={tiny_run}", "--num-hypotheses", "2", "--out"]
    assert run("label", *written, tmp_path / "labels", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["outputs"], shown["engine"], shown["num_hypotheses"], shown["top_k"]) == (12, "torch", 2, 0)
    assert shown["folder"] == str(tmp_path / "labels") and shown["size_mb"] > 0
    from_labels = ["--set", f"teacher.labels={tmp_path / 'labels'}", "--set", "teacher.path="]
    advice = [*few, *from_labels, "--set", "method.name=mbr", "--set", "student.d_model=16"]
    assert run("distill", tiny_recipe, *advice, "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)["estimate"]
    assert plan["teacher_outputs_minutes"] is None and plan["teacher_parameters"] > plan["student_parameters"]
    assert run("distill", tiny_recipe, *advice, *SHORT, "--out", tmp_path / "run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["method"] == "mbr"
    assert run("label", *written, tmp_path / "labels", "--top-k", "3") == EXIT_CODES[errors.DataError]
    assert "top_k: 0 in the labels, 3 wanted" in capsys.readouterr().err
    assert run("label", tiny_recipe, *advice, "--out", tmp_path / "x") == EXIT_CODES[errors.ConfigError]
    assert "labels are written by a teacher: give teacher.path" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["--out", "x"], EXIT_CODES[errors.ConfigError], "compress train"),
        (["--set", "method.name=nosuch", "--set", "student.d_model=-1"], EXIT_CODES[errors.ConfigError], "2 mistakes"),
        (
            ["--set", "teacher.path=nowhere", "--set", "method.name=imitkd"],
            EXIT_CODES[errors.ConfigError],
            "--out is missing",
        ),
        (["--set", "oops"], EXIT_CODES[errors.ConfigError], "key.path=value"),
    ],
)
def test_wrong_options_are_config_errors(
    tiny_recipe: Path, arguments: list[str], code: int, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("distill", tiny_recipe, *arguments) == code
    assert expected in capsys.readouterr().err


def test_existing_run_is_not_overwritten(tiny_recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    assert run("train", tiny_recipe, "--out", tmp_path) == EXIT_CODES[errors.OutputExistsError]
    assert run("demo", "--out", tmp_path) == EXIT_CODES[errors.OutputExistsError]
    assert (tmp_path / "mine").read_text() == "precious"
