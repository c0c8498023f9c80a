"""Whole runs on the tiny corpus: every method, what they print, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from compressor.config import Recipe
from compressor.decoding.search import beam_search, pad_sources
from compressor.distillation import run
from compressor.distillation import training_loop as loop_module
from compressor.distillation.label_store import LabelStore
from compressor.distillation.run import distill
from compressor.distillation.setup import set_up
from compressor.distillation.trainer import Trainer
from compressor.errors import (
    ConfigError,
    OutputExistsError,
)
from compressor.method_table import METHODS
from compressor.models.weights import load_run
from compressor.run_folder import CHECKPOINT_FOLDER, LABELS_FOLDER, is_finished
from compressor.teachers.native import NativeTeacher
from tests.distillation.killed_runs import losses

Make = Callable[..., Recipe]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_writes_a_loadable_run(make_recipe: Make, tmp_path: Path, method: str) -> None:
    training = {}
    if METHODS[method].starts_from_run:
        training["initialization"] = str(distill(make_recipe("seqkd", updates=2), tmp_path / "first", progress=False))
    out = distill(make_recipe(method, updates=5, training=training), tmp_path / "run", progress=False)
    run = load_run(out)
    assert run.recipe is not None
    assert run.recipe.method.name == run.record.method == method
    assert run.record.finished and run.record.updates == 5
    assert 0 <= run.record.dev.bleu <= 100
    assert run.record.teacher.parameters > run.record.parameters
    assert not (out / CHECKPOINT_FOLDER).exists()


def test_training_lowers_the_loss(make_recipe: Make, tmp_path: Path) -> None:
    out = distill(make_recipe("imitkd+full", updates=200), tmp_path / "run", progress=False)
    first, *_, last = losses(out)
    assert last < 0.7 * first


def test_an_existing_folder_is_not_overwritten(
    make_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/mine.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="force=True"):
        distill(make_recipe("vanilla"), tmp_path / "run", progress=False)
    for options, error in (
        ({"force": True}, OutputExistsError),  # it is no run
        ({"resume": True, "force": True}, ConfigError),
    ):
        with monkeypatch.context() as patch, pytest.raises(error):
            patch.setattr(run, "set_up", None)  # before anything is read
            distill(make_recipe("vanilla"), tmp_path / "run", progress=False, **options)
    assert (tmp_path / "run/mine.txt").read_text() == "mine"


def test_a_run_that_another_process_writes_is_refused(
    make_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, refused = tmp_path / "run", list[str]()
    train_group = Trainer.train_group

    def second(self: Trainer, group: list, update: int) -> list:
        for options in ({}, {"resume": True}, {"force": True}):
            with pytest.raises(OutputExistsError) as error:
                distill(make_recipe("vanilla"), tmp_path / "." / "run", progress=False, **options)
            refused.append(str(error.value))
        return train_group(self, group, update)

    monkeypatch.setattr(Trainer, "train_group", second)
    distill(make_recipe("vanilla", updates=1), out, progress=False)
    assert all(f"process {os.getpid()} is writing this run" in message for message in refused)
    assert len(refused) == 3 and list(tmp_path.iterdir()) == [out]


def test_a_slow_update_is_warned_of_once(
    make_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train_group, seconds = Trainer.train_group, [0.0]

    def timed(self: Trainer, group: list, update: int) -> list:
        seconds[0] += 100.0 if update < 12 else 450.0
        return train_group(self, group, update)

    monkeypatch.setattr(Trainer, "train_group", timed)
    monkeypatch.setattr(loop_module.time, "monotonic", lambda: seconds[0])
    recipe = make_recipe("vanilla", updates=16, training={"checkpoint_minutes": 1e9, "batch_tokens": 20_000})
    distill(recipe, tmp_path / "run")
    text = capsys.readouterr().err
    assert text.count("warning: ") == 1 and "update 13 took 4.5 times as long as usual" in text
    assert "training with 1 thread (training.threads)" in text


def test_a_run_shares_the_tokenized_corpus_beside_it(
    make_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("compressor.data.token_cache.SHARED_BYTES", 1)
    for name, out in (("one", tmp_path / "runs/one"), ("two", tmp_path / "runs/two")):
        distill(make_recipe("vanilla", updates=1), out)
        assert ("tokenized examples are in" in capsys.readouterr().err) is (name == "two")
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["one", "tokenized", "two"]
    weights = [(tmp_path / "runs" / name / "model.safetensors").read_bytes() for name in ("one", "two")]
    assert weights[0] == weights[1]
    recipe = make_recipe("vanilla", updates=1)
    elsewhere = recipe.data.model_copy(update={"cache": str(tmp_path / "elsewhere")})
    distill(recipe.model_copy(update={"data": elsewhere}), tmp_path / "three", progress=False)
    assert (tmp_path / "elsewhere").is_dir() and not (tmp_path / "tokenized").exists()


def test_dropped_examples_are_printed_as_they_are(
    make_recipe: Make, tmp_path: Path, tiny_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for language in ("de", "en"):
        text = (tiny_corpus / f"train.{language}").read_text(encoding="utf-8")
        (tmp_path / f"train.{language}").write_text(text + "[/b] [red]rot\n" * 2, encoding="utf-8")
        (tmp_path / f"dev.{language}").write_bytes((tiny_corpus / f"dev.{language}").read_bytes())
    recipe = make_recipe("vanilla", updates=1)
    data = recipe.data.model_copy(update={"root": str(tmp_path)})
    distill(recipe.model_copy(update={"data": data}), tmp_path / "run")
    assert "1 repeated (such as '[/b] [red]rot ||| [/b] [red]rot')" in " ".join(capsys.readouterr().err.split())


def test_seqkd_learns_from_the_teachers_beam_search(make_recipe: Make, tmp_path: Path) -> None:
    recipe = make_recipe("seqkd", updates=2)
    out = distill(recipe, tmp_path / "run", progress=False)
    store = LabelStore.open(out / LABELS_FOLDER)
    assert recipe.teacher is not None
    teacher = NativeTeacher(recipe.teacher)
    setup = set_up(recipe)
    limit, eos = recipe.data.max_target_tokens, teacher.generation.eos_id
    for index in range(5):
        source = pad_sources([setup.train.sources[index].tolist()], teacher.generation.pad_id)
        best = beam_search(teacher.model, teacher.generation, *source, num_beams=3)[0][0].tokens
        assert list(store.output(index)) == (best if len(best) <= limit else [*best[: limit - 1], eos])


def test_runs_of_one_program_may_differ_in_precision(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    for precision in ("fp32", "bf16", "fp32"):
        recipe = make_recipe("vanilla", updates=2, training={"precision": precision})
        assert is_finished(distill(recipe, tmp_path / "run", force=True, progress=False))
