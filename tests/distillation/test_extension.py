"""Runs that go on: beyond their end, with weights kept by update, and with an average of the last ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from compressor.config import Recipe
from compressor.distillation import training_loop as loop_module
from compressor.distillation.checkpoint import save_checkpoint
from compressor.distillation.evaluation import dev_scores
from compressor.distillation.run import distill
from compressor.distillation.setup import set_up
from compressor.errors import ModelError
from compressor.models.weights import load_run
from compressor.run_folder import CHECKPOINT_FOLDER, is_finished, read_record
from tests.distillation.killed_runs import Killed, killed_at, metrics

Make = Callable[..., Recipe]
PEAK, WARMUP = 0.01, 4


def recipe_of(make_recipe: Make, updates: int, **training: Any) -> Recipe:
    fixed = {"eval_every": 5, "checkpoint_minutes": 1e-9, "learning_rate": PEAK, "warmup_updates": WARMUP}
    return make_recipe("vanilla", updates=updates, training=fixed | training)


def rates(out: Path) -> dict[int, float]:
    return {line["update"]: line["learning_rate"] for line in metrics(out) if "loss" in line}


def linear(update: int, updates: int) -> float:
    """The rate of update ``update``, counted from 1."""
    return PEAK * min(update / WARMUP, (updates - update + 1) / (updates - WARMUP))


def test_a_killed_run_may_become_longer(make_recipe: Make, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with killed_at(8):
        distill(recipe_of(make_recipe, 12), out, progress=False)
    distill(recipe_of(make_recipe, 20), out, resume=True, progress=False)
    assert rates(out) == pytest.approx({n: linear(n, 12 if n <= 8 else 20) for n in range(1, 21)})
    run = load_run(out)
    assert run.record.finished and run.record.updates == 20 and run.recipe.training.updates == 20


def test_a_finished_run_may_become_longer(
    make_recipe: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, longer = distill(recipe_of(make_recipe, 10), tmp_path / "run", progress=False), recipe_of(make_recipe, 24)
    first = read_record(out)
    with killed_at(10):
        distill(longer, out, resume=True)
    shown = " ".join(capsys.readouterr().err.split())
    assert f"goes on at update 10 of now 24, with the best weights (update {first.best_update})" in shown
    assert "learning rate and β are those of the new length" in shown
    assert is_finished(out) and (out / CHECKPOINT_FOLDER).is_dir()  # the shorter run, and how the longer one goes on
    assert distill(recipe_of(make_recipe, 10), out, resume=True, progress=False) == out
    with killed_at(17):
        distill(longer, out, resume=True, progress=False)
    distill(longer, out, resume=True, progress=False)
    warm = {n: min(1.0, (n - 10) / WARMUP) * linear(n, 24) for n in range(11, 25)}
    assert {n: rate for n, rate in rates(out).items() if n > 10} == pytest.approx(warm)
    assert [line["update"] for line in metrics(out) if "loss" in line] == list(range(1, 25))
    record = read_record(out)
    assert record.finished and record.updates == 24 and record.dev.bleu >= first.dev.bleu
    assert not (out / CHECKPOINT_FOLDER).exists()


def test_a_run_that_was_killed_while_it_went_on_ends_with_the_same_weights(make_recipe: Make, tmp_path: Path) -> None:
    longer = recipe_of(make_recipe, 16)
    for name in ("whole", "killed"):
        distill(recipe_of(make_recipe, 8), tmp_path / name, progress=False)
    with killed_at(12):
        distill(longer, tmp_path / "killed", resume=True, progress=False)
    for name in ("whole", "killed"):
        distill(longer, tmp_path / name, resume=True, progress=False)
    whole, killed = (load_run(tmp_path / name).model.state_dict() for name in ("whole", "killed"))
    assert all(torch.equal(tensor, killed[name]) for name, tensor in whole.items())


@pytest.mark.parametrize(
    ("updates", "changes", "message"),
    [
        (6, {}, r"has made 8 updates, and the recipe asks for 6; give more in training\.updates"),
        (16, {"learning_rate": 0.5}, r"another recipe \(training\.learning_rate was 0\.01, is 0\.5\)"),
        (16, {"seed": 3}, r"another recipe \(training\.seed was 1, is 3\)"),
    ],
)
def test_nothing_but_the_length_may_change(
    make_recipe: Make, tmp_path: Path, updates: int, changes: dict[str, Any], message: str
) -> None:
    out = distill(recipe_of(make_recipe, 8), tmp_path / "run", progress=False)
    with pytest.raises(ModelError, match=message):
        distill(recipe_of(make_recipe, updates, **changes), out, resume=True, progress=False)
    assert is_finished(out) and not (out / CHECKPOINT_FOLDER).exists()


def test_a_run_killed_after_its_last_checkpoint_is_finished(
    make_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, out = recipe_of(make_recipe, 6), tmp_path / "run"

    def killed(run: Path, recipe: Recipe, model: Any, optimizer: Any, progress: Any, *more: Any) -> None:
        save_checkpoint(run, recipe, model, optimizer, progress, *more)
        if progress.updates == 6:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(loop_module, "save_checkpoint", killed)
        with pytest.raises(Killed):
            distill(recipe, out, progress=False)
    assert not is_finished(out)
    assert is_finished(distill(recipe, out, resume=True, progress=False))


def test_the_last_weights_are_kept_by_update(make_recipe: Make, tmp_path: Path) -> None:
    recipe, out = recipe_of(make_recipe, 23, keep_checkpoints=2), tmp_path / "run"
    with killed_at(18):
        distill(recipe, out, progress=False)
    (out / "checkpoints/000020.safetensors").write_bytes(b"of updates that the checkpoint does not know")
    distill(recipe, out, resume=True, progress=False)
    files = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert files == ["000020.safetensors", "000023.safetensors"]
    best = load_file(out / "model.safetensors")
    last = load_file(out / "checkpoints/000023.safetensors")
    assert best.keys() == last.keys() and all(tensor.dtype == np.float16 for tensor in last.values())
    if read_record(out).best_update == 23:
        assert all(np.array_equal(best[name], last[name]) for name in best)


@pytest.mark.parametrize("better", [True, False])
def test_the_average_of_the_last_weights_is_taken_if_dev_is_better(
    make_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, better: bool
) -> None:
    recipe, out = recipe_of(make_recipe, 20, keep_checkpoints=3, average_last=3), tmp_path / "run"
    scored, score = [], dev_scores

    def dev(setup: Any, outputs: Any) -> Any:
        scores = score(setup, outputs)
        scored.append({name: tensor.double().numpy() for name, tensor in setup.student.state_dict().items()})
        return scores if len(scored) < 5 else type(scores)(**vars(scores) | {"bleu": 99.0 if better else 0.0})

    monkeypatch.setattr(loop_module, "dev_scores", dev)
    distill(recipe, out, progress=False)
    files = [load_file(out / f"checkpoints/{update:06}.safetensors") for update in (10, 15, 20)]
    mean = {name: np.mean([one[name].astype(np.float64) for one in files], axis=0) for name in files[0]}
    assert len(scored) == 5
    for name, tensor in mean.items():
        np.testing.assert_allclose(scored[-1][name], tensor, rtol=1e-6, atol=1e-7)
    record, weights = read_record(out), load_file(out / "model.safetensors")
    assert record.averaged == ((10, 15, 20) if better else None)
    assert all(np.array_equal(weights[name], tensor.astype(np.float16)) for name, tensor in mean.items()) == better
    assert [line["averaged"] for line in metrics(out) if "averaged" in line] == [[10, 15, 20]]


def test_averaging_alone_leaves_no_weights_behind(make_recipe: Make, tmp_path: Path) -> None:
    out = distill(recipe_of(make_recipe, 10, average_last=2), tmp_path / "run", progress=False)
    assert not (out / "checkpoints").exists() and len([line for line in metrics(out) if "averaged" in line]) == 1


@pytest.mark.parametrize("limit", [24, 32])
def test_a_run_reads_no_longer_sources_than_it_was_trained_on(make_recipe: Make, limit: int) -> None:
    recipe = make_recipe("vanilla")
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"max_source_tokens": limit})})
    assert recipe.student.max_length == 32
    for one in (recipe, recipe.model_copy(update={"teacher": None})):
        assert set_up(one).generation.max_source_tokens == limit


def test_a_run_starts_from_the_weights_of_another(make_recipe: Make, tmp_path: Path) -> None:
    first = distill(make_recipe("vanilla", updates=6), tmp_path / "first", progress=False)
    recipe = make_recipe("vanilla", training={"initialization": str(first)})
    recipe = recipe.model_copy(update={"student": recipe.student.model_copy(update={"dropout": 0.2})})
    setup, weights = set_up(recipe), load_run(first).model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in setup.student.state_dict().items())
    alone = recipe.model_copy(update={"teacher": None, "method": recipe.method})
    assert set_up(alone).tokenizer.vocab == load_run(first).tokenizer.vocab
    wide = recipe.model_copy(update={"student": recipe.student.model_copy(update={"encoder_ffn": 24})})
    with pytest.raises(ModelError, match=r"another shape \(encoder_ffn is 24, the run's 16\)"):
        set_up(wide)
    absent = make_recipe("vanilla", training={"initialization": str(tmp_path / "absent")})
    with pytest.raises(ModelError, match="absent is no run"):
        set_up(absent)


def test_a_run_starts_from_numbered_weights_of_another(make_recipe: Make, tmp_path: Path) -> None:
    first = distill(recipe_of(make_recipe, 10, keep_checkpoints=2), tmp_path / "first", progress=False)
    numbered = [load_file(first / f"checkpoints/{update:06}.safetensors") for update in (5, 10)]
    assert any(not np.array_equal(tensor, numbered[1][name]) for name, tensor in numbered[0].items())
    for update, weights in zip((5, 10), numbered, strict=True):
        named = str(first / f"checkpoints/{update:06}.safetensors")
        started = set_up(make_recipe("vanilla", training={"initialization": named})).student.state_dict()
        assert all(np.array_equal(tensor.numpy(), weights[name]) for name, tensor in started.items())
    absent = make_recipe("vanilla", training={"initialization": str(first / "checkpoints/000007.safetensors")})
    with pytest.raises(ModelError, match=r"000007\.safetensors: missing"):
        set_up(absent)


@pytest.mark.parametrize(("layers", "taken"), [((3, 2), ([0, 0, 1], [0, 0])), ((1, 1), ([1], [0]))])
def test_a_run_starts_from_one_of_another_depth(
    make_recipe: Make, tmp_path: Path, layers: tuple[int, int], taken: tuple[list[int], list[int]]
) -> None:
    def of_depth(encoder: int, decoder: int, **changes: Any) -> Recipe:
        recipe = make_recipe("vanilla", **changes)
        depth = {"encoder_layers": encoder, "decoder_layers": decoder}
        return recipe.model_copy(update={"student": recipe.student.model_copy(update=depth)})

    def origin(name: str) -> str:
        stack, _, inside = name.partition(".")
        if stack not in ("encoder", "decoder"):
            return name
        number, _, rest = inside.partition(".")
        return f"{stack}.{taken[stack == 'decoder'][int(number)]}.{rest}"

    first = distill(of_depth(2, 1, updates=4), tmp_path / "first", progress=False)
    weights = load_run(first).model.state_dict()
    student = set_up(of_depth(*layers, training={"initialization": str(first)})).student.state_dict()
    assert {origin(name) for name in student} <= weights.keys()
    assert all(torch.equal(tensor, weights[origin(name)]) for name, tensor in student.items())
