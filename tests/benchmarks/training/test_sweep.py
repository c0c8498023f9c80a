"""A folder of recipes: what comes first, and all of them made, continued and reported."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.training.sweep import choose, label_command, plan, run_command
from compressor.child_process import child_environment
from compressor.errors import ConfigError
from compressor.run_folder import is_finished, read_record


@pytest.fixture
def folder(tiny_recipe: Path, tiny_run: Path, tmp_path: Path) -> Path:
    """Four methods, of which one goes on from another and one needs no teacher."""
    made = tmp_path / "recipes"
    (made / "more").mkdir(parents=True)
    base = tiny_recipe.read_text().replace("tokenizer: {vocab_size: 52, byte_fallback: false}\n", "")
    base = base.replace("method: {name: vanilla}\n", "").replace("updates: 150", "updates: 4")
    (made / "base.yaml").write_text(f"{base}teacher: {{path: {tiny_run}, num_beams: 3, label_engine: torch}}\n")
    (made / "vanilla.yaml").write_text("base: base.yaml\nmethod: {name: vanilla}\n")
    (made / "more" / "seqkd.yaml").write_text("base: ../base.yaml\nmethod: {name: seqkd}\n")
    (made / "full.yaml").write_text("base: base.yaml\nmethod: {name: vanilla+full}\n")
    start = f"training: {{initialization: {tmp_path}/runs/more/seqkd/}}"
    (made / "a-finish.yaml").write_text(f"base: base.yaml\nmethod: {{name: seqinter}}\n{start}\n")
    return made


def test_a_run_comes_after_the_one_that_it_starts_from(folder: Path, tmp_path: Path) -> None:
    steps = plan(folder, tmp_path / "runs", [])
    assert [step.out.relative_to(tmp_path / "runs").as_posix() for step in steps] == [
        "full", "more/seqkd", "vanilla", "a-finish",
    ]  # fmt: skip


def test_labels_are_written_once_with_as_many_outputs_as_any_reads(folder: Path, tmp_path: Path) -> None:
    steps = plan(folder, tmp_path / "runs", ["training.updates=3"])
    command = label_command(steps, tmp_path / "labels", ["training.updates=3"])
    assert command is not None and command[3:] == [
        "label", str(folder / "more" / "seqkd.yaml"), "--out", str(tmp_path / "labels"),
        "--set", "training.updates=3", "--num-hypotheses", "3",
    ]  # fmt: skip
    learns_on_references, reads, none = (" ".join(run_command(step, tmp_path / "labels", [])) for step in steps[:3])
    assert f"--set teacher.labels={tmp_path}/labels" in reads
    assert "teacher.labels" not in learns_on_references and "teacher.labels" not in none
    assert label_command([steps[0], steps[2]], tmp_path / "labels", []) is None


def test_recipes_that_wait_for_each_other_are_named(folder: Path, tmp_path: Path) -> None:
    start = f"training: {{initialization: {tmp_path}/runs/a-finish/}}"
    (folder / "more" / "seqkd.yaml").write_text(f"base: ../base.yaml\nmethod: {{name: seqkd}}\n{start}\n")
    with pytest.raises(ConfigError, match=r"a-finish\.yaml, .*seqkd\.yaml: each starts from the run of another"):
        plan(folder, tmp_path / "runs", [])
    with pytest.raises(ConfigError, match="no recipes in it"):
        plan(tmp_path / "nothing", tmp_path, [])


def test_some_recipes_are_chosen_by_name(folder: Path, tmp_path: Path) -> None:
    steps, out = plan(folder, tmp_path / "runs", []), tmp_path / "runs"
    assert [step.path.stem for step in choose(steps, out, ["*"])] == ["full", "seqkd", "vanilla", "a-finish"]
    assert [step.path.stem for step in choose(steps, out, ["vanilla", "more/*", "v*"])] == ["vanilla", "seqkd"]
    with pytest.raises(
        ConfigError, match="--only seqkd: no such recipe; there are full, more/seqkd, vanilla, a-finish"
    ):
        choose(steps, out, ["seqkd"])


def test_no_process_is_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", str(folder), "--out", str(tmp_path / "runs"), "--processes", "0"]) != 0
    assert "--processes is 0: give 1 or more" in capsys.readouterr().err


@pytest.mark.slow
def test_all_are_made_once_and_a_failure_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    lacking = "data: {train: [{source: none.de, target: none.en}]}"
    (folder / "wrong.yaml").write_text(f"base: base.yaml\nmethod: {{name: vanilla}}\n{lacking}\n")
    arguments = ["sweep", str(folder), "--out", str(out), "--processes", "2"]
    assert main(arguments) != 0
    said = capsys.readouterr().err
    assert "1 of 5 runs failed, see" in said and "wrong.log" in said
    made = [out / name for name in ("vanilla", "full", "more/seqkd", "a-finish")]
    assert all(is_finished(run) for run in made) and read_record(made[3]).method == "seqinter"
    (folder / "wrong.yaml").unlink()
    before = [(run / "run.json").stat().st_mtime_ns for run in made]
    assert main(arguments) == 0
    assert [(run / "run.json").stat().st_mtime_ns for run in made] == before


@pytest.mark.slow
def test_a_stopped_one_goes_on(folder: Path, tmp_path: Path) -> None:
    for name in ("a-finish.yaml", "full.yaml", "more/seqkd.yaml"):
        (folder / name).unlink()
    out, settings = tmp_path / "runs", ["--set", "training.updates=400"]
    command = [sys.executable, "-m", "benchmarks", "sweep", str(folder), "--out", str(out), *settings]
    with subprocess.Popen(command, env=child_environment(), start_new_session=True) as process:
        metrics = out / "vanilla" / "metrics.jsonl"
        deadline = time.monotonic() + 60
        while not metrics.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
    assert (out / "vanilla" / "checkpoint").is_dir() and not is_finished(out / "vanilla")
    assert main(["sweep", str(folder), "--out", str(out), *settings]) == 0
    assert is_finished(out / "vanilla")
