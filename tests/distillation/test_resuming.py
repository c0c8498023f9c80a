"""Runs that were killed, interrupted or ran out of space go on, and end as if nothing had been."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from compressor.config import Recipe, dump_recipe, parse_recipe
from compressor.decoding.search import Hypothesis
from compressor.distillation import labels
from compressor.distillation import training_loop as loop_module
from compressor.distillation.label_engines import TorchEngine
from compressor.distillation.label_store import LabelStore
from compressor.distillation.run import distill
from compressor.distillation.trainer import Trainer
from compressor.errors import (
    InterruptedRun,
    ModelError,
    StorageError,
)
from compressor.models.weights import load_run
from compressor.run_folder import CHECKPOINT_FOLDER, LABELS_FOLDER, RECIPE_FILE, is_finished, read_record
from tests.distillation.killed_runs import Killed, killed_at, losses, metrics

Make = Callable[..., Recipe]


TOPK = {"schedule": {"name": "constant", "value": 0.5}, "rollout": {"strategy": "topk", "batches": 2}}


REPLAYED = {
    "schedule": {"name": "constant", "value": 0.2},
    "rollout": {"strategy": "speculative", "replay": 0.7, "batches": 2},
}


@pytest.mark.parametrize(
    ("method", "section", "dropout"),
    [("vanilla", {}, 0.0), ("imitkd+full", {}, 0.0), ("imitkd", TOPK, 0.3), ("imitkd+full", REPLAYED, 0.0)],
)
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    make_recipe: Make, tmp_path: Path, method: str, section: dict[str, Any], dropout: float
) -> None:
    often = {"eval_every": 6, "checkpoint_minutes": 1e-9}
    if section is REPLAYED:
        often["batch_tokens"] = 900  # several passes
    recipe = make_recipe(method, updates=20, training=often, method_section=section)
    recipe = recipe.model_copy(update={"student": recipe.student.model_copy(update={"dropout": dropout})})
    whole = load_run(distill(recipe, tmp_path / "whole", progress=False))
    with killed_at(10):
        distill(recipe, tmp_path / "resumed", progress=False)
    assert not is_finished(tmp_path / "resumed")
    resumed = load_run(distill(recipe, tmp_path / "resumed", resume=True, progress=False))
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value, msg=name)
    assert resumed.record.dev == whole.record.dev
    updates = [line["update"] for line in metrics(tmp_path / "resumed")]
    assert updates == sorted(updates)
    assert losses(tmp_path / "resumed") == pytest.approx(losses(tmp_path / "whole"), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "section"), [("vanilla", {}), ("imitkd+full", TOPK)])
def test_a_run_killed_at_random_moments_ends_with_the_same_weights(
    make_recipe: Make, tmp_path: Path, method: str, section: dict[str, Any]
) -> None:
    training = {"eval_every": 10, "checkpoint_minutes": 1e-9, "patience": 4, "average_last": 2, "keep_checkpoints": 2}
    recipe = make_recipe(method, updates=150, training=training, method_section=section)
    whole, out = distill(recipe, tmp_path / "whole", progress=False), tmp_path / "killed"
    recipe_file, draws, kills = tmp_path / "recipe.yaml", random.Random(), 0
    recipe_file.write_text(dump_recipe(recipe), encoding="utf-8")
    command = [sys.executable, "-m", "compressor", "distill", str(recipe_file), "--out", str(out)]
    while not (out.is_dir() and is_finished(out)):
        started = subprocess.Popen([*command, "--resume"] if out.is_dir() else command, stderr=subprocess.DEVNULL)
        before = updates_logged(out)
        while kills < 3 and started.poll() is None and updates_logged(out) <= before:
            time.sleep(0.01)
        try:
            started.wait(draws.uniform(0, 2) if kills < 3 else 300)
        except subprocess.TimeoutExpired:
            started.kill()
            kills += 1
            started.wait()
        else:
            assert started.returncode == 0
    assert kills >= 1
    for name in ("model.safetensors", *(f"checkpoints/{path.name}" for path in (whole / "checkpoints").iterdir())):
        weights = load_file(out / name)
        assert all(torch.equal(weights[key], value) for key, value in load_file(whole / name).items())
    same = {"updates", "best_update", "dev", "averaged", "stopped_early", "target_tokens", "epoch", "batch"}
    records = [read_record(folder).model_dump(include=same) for folder in (whole, out)]
    assert records[0] == records[1]
    assert updates_logged(out) == updates_logged(whole)
    assert [path.name for path in out.rglob(".*")] == []


def updates_logged(run: Path) -> int:
    """The number of whole lines of the training curves."""
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_a_checkpoint_whose_replacement_was_cut_short_is_read(
    make_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, out = make_recipe("vanilla", updates=8, training={"checkpoint_minutes": 1e-9}), tmp_path / "run"
    replace, moved = os.replace, list[str]()

    def killed(source: Any, target: Any) -> None:
        replace(source, target)
        of_run = Path(target).name == "content" and out in Path(target).parents  # there is the corpus, too
        moved.extend([str(target)] if of_run else [])
        if len(moved) == 3:  # the old checkpoint is away, the new one not yet there
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("compressor.output_folder.os.replace", killed)
        patch.setattr("compressor.output_folder.shutil.rmtree", lambda *_, **__: None)
        with pytest.raises(Killed):
            distill(recipe, out, progress=False)
    assert not (out / CHECKPOINT_FOLDER).exists()
    for left in (f".{RECIPE_FILE}.1a2b3c4d.partial", "tokenizer/.tokenizer.model.1a2b3c4d.partial"):
        (out / left).touch()
    first: list[int] = []
    train_group = Trainer.train_group

    def watched(self: Trainer, group: list, update: int) -> list:
        first.append(update)
        return train_group(self, group, update)

    monkeypatch.setattr(Trainer, "train_group", watched)
    assert is_finished(distill(recipe, out, resume=True, progress=False))
    assert first == [3, 4, 5, 6, 7]
    assert [path.name for path in out.rglob(".*")] == []


def test_interrupt_writes_a_checkpoint(make_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_group = Trainer.train_group

    def interrupted(self: Trainer, group: list, update: int) -> list:
        if update == 4:
            signal.raise_signal(signal.SIGINT)
        return train_group(self, group, update)

    recipe = make_recipe("vanilla", updates=9)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_group", interrupted)
        with pytest.raises(InterruptedRun, match=r"update 5 of 9.*resume=True"):
            distill(recipe, tmp_path / "run", progress=False)
    assert is_finished(distill(recipe, tmp_path / "run", resume=True, progress=False))


def test_a_run_does_not_go_on_with_other_data_or_another_teacher(
    make_recipe: Make, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe("vanilla+full", training={"checkpoint_minutes": 1e-9, "eval_every": 4})
    with monkeypatch.context() as patch:
        patch.setattr(loop_module.TrainingLoop, "_save", _no_space)
        with pytest.raises(OSError, match="No space"):
            distill(recipe, tmp_path / "run", progress=False)
    corpus, teacher = tmp_path / "corpus", tmp_path / "teacher"
    shutil.copytree(recipe.data.root, corpus)
    shutil.copytree(tiny_run, teacher)
    values = recipe.model_dump()
    values["data"]["root"], values["teacher"]["path"] = str(corpus), str(teacher)
    text, weights = (corpus / "train.en").read_text(encoding="utf-8"), load_file(teacher / "model.safetensors")
    (corpus / "train.en").write_text(text.replace("the", "a", 1), encoding="utf-8")
    with pytest.raises(ModelError, match=r"run: cannot go on \(data: the content is another .*force=True"):
        distill(parse_recipe(values), tmp_path / "run", resume=True, progress=False)
    (corpus / "train.en").write_text(text, encoding="utf-8")
    save_file({name: tensor * 1.5 for name, tensor in weights.items()}, teacher / "model.safetensors")
    with pytest.raises(ModelError, match=r"cannot go on \(teacher: the content is another"):
        distill(parse_recipe(values), tmp_path / "run", resume=True, progress=False)
    save_file(weights, teacher / "model.safetensors")  # the same, elsewhere
    assert is_finished(distill(parse_recipe(values), tmp_path / "run", resume=True, progress=False))


def test_resuming_needs_a_checkpoint_of_the_same_recipe(
    make_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="no run to resume"):
        distill(make_recipe("vanilla"), tmp_path / "run", resume=True, progress=False)
    assert not (tmp_path / "run").exists()
    often = {"checkpoint_minutes": 1e-9, "eval_every": 4}
    with monkeypatch.context() as patch:
        patch.setattr(loop_module.TrainingLoop, "_save", _no_space)
        with pytest.raises(OSError, match="No space"):
            distill(make_recipe("vanilla", training=often), tmp_path / "run", progress=False)
    other = make_recipe("vanilla", training=often | {"learning_rate": 0.5})
    with pytest.raises(ModelError, match="another recipe"):
        distill(other, tmp_path / "run", resume=True, progress=False)
    elsewhere = make_recipe("vanilla", training=often | {"threads": 2})
    assert is_finished(distill(elsewhere, tmp_path / "run", resume=True, progress=False))
    with pytest.raises(ModelError, match="is finished, with another recipe"):
        distill(other, tmp_path / "run", resume=True, progress=False)


def test_a_run_killed_before_its_first_checkpoint_keeps_the_teachers_outputs(
    make_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "SHARD_SOURCES", 60)
    recipe, out = make_recipe("seqkd", updates=3), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_group", _no_space)
        with pytest.raises(OSError, match="No space"):
            distill(recipe, out, progress=False)
    whole, records = LabelStore.open(out / LABELS_FOLDER), sorted((out / LABELS_FOLDER).glob("shard-*.json"))
    expected = [list(whole.output(index)) for index in range(len(whole))]
    assert len(records) > 2
    records[-1].unlink()  # killed before the last shard was whole
    (out / "metrics.jsonl").write_text('{"update": 1, "lo')
    written: list[int] = []
    search = TorchEngine.hypotheses

    def watched(engine: TorchEngine, sources: Sequence[list[int]], *beams: int) -> list[list[Hypothesis]]:
        written.append(len(sources))
        return search(engine, sources, *beams)

    monkeypatch.setattr(TorchEngine, "hypotheses", watched)
    assert is_finished(distill(recipe, out, resume=True, progress=False))
    again = LabelStore.open(out / LABELS_FOLDER)
    assert sum(written) == len(whole.record.indices(len(records) - 1))
    assert [list(again.output(index)) for index in range(len(again))] == expected
    assert json.loads((out / "run.json").read_text())["seconds"] >= round(again.seconds, 1) > 0
    assert [json.loads(line)["update"] for line in (out / "metrics.jsonl").read_text().splitlines()][:1] == [1]


def test_full_disk_preserves_the_last_checkpoint(
    make_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe("vanilla", updates=12, training={"checkpoint_minutes": 1e-9})
    save, calls = loop_module.save_checkpoint, list[int]()

    def full(*arguments: object) -> None:
        calls.append(1)
        if len(calls) == 5:
            monkeypatch.setattr("compressor.files.os.fsync", _no_space)
        save(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop_module, "save_checkpoint", full)
        with pytest.raises(StorageError, match="full"):
            distill(recipe, tmp_path / "run", progress=False)
    monkeypatch.undo()
    progress = json.loads((tmp_path / "run" / CHECKPOINT_FOLDER / "progress.json").read_text())
    assert progress["updates"] == 4
    assert [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".")] == []
    assert is_finished(distill(recipe, tmp_path / "run", resume=True, progress=False))


def _no_space(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")
