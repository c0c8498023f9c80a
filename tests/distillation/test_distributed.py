"""Two processes make the updates that one process makes with the batches of both."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from compressor.config import Recipe, dump_recipe
from compressor.data.batching import Batches
from compressor.distillation.contexts import build_contexts
from compressor.distillation.run import distill
from compressor.distillation.setup import set_up
from compressor.distillation.trainer import Trainer
from compressor.models.weights import load_run


def launch(recipe: Recipe, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    file, out = folder / "recipe.yaml", folder / "run"
    file.write_text(dump_recipe(recipe), encoding="utf-8")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "compressor"]
    command = [*torchrun, "distill", str(file), "--out", str(out), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def loss_curve(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_two_processes_have_the_loss_curve_of_one(
    make_recipe: Callable[..., Recipe], tmp_path: Path, dropout: float
) -> None:
    method = {
        "schedule": {"name": "constant", "value": 0.5},
        "rollout": {"strategy": "topk", "top_k": 3, "batches": 2, "replay": 0.5},
    }
    training = {"accumulation": 2, "eval_every": 50, "learning_rate": 0.003}
    whole = make_recipe("imitkd", updates=50, mono=True, method_section=method, training=training)
    whole = whole.model_copy(update={"student": whole.student.model_copy(update={"dropout": dropout})})
    halves = whole.model_copy(update={"training": whole.training.model_copy(update={"accumulation": 1})})
    expected = loss_curve(distill(whole, tmp_path / "one", progress=False))
    done = launch(halves, tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(expected) >= 25 and expected[-1] < expected[0]
    assert loss_curve(tmp_path / "run") == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_one_update_is_that_of_the_mean_loss_over_all_positions(
    make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    training = {"eval_every": 1, "warmup_updates": 0, "learning_rate": 0.01}
    recipe = make_recipe("vanilla+full", updates=1, training=training)
    recipe = recipe.model_copy(update={"student": recipe.student.model_copy(update={"dropout": 0.0})})
    done = launch(recipe, tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [set(line) & {"loss", "dev"} for line in lines] == [{"loss"}, {"dev"}]  # one process writes
    assert done.stdout.count("finished") == 1

    trainer = Trainer(set_up(recipe))
    student, train = trainer.student, trainer.setup.train
    shares = []
    for rank in range(2):
        shard = Batches(
            train.sources,
            train.targets,
            pad_id=trainer.setup.generation.pad_id,
            max_tokens=recipe.training.batch_tokens,
            seed=recipe.training.seed,
            rank=rank,
            world_size=2,
        )
        batch = next(shard.epoch(0))
        outputs = [train.targets[index] for index in batch.indices]
        contexts = build_contexts(outputs, [True] * len(outputs), trainer.setup.generation)
        shares.append((trainer.loss(batch, contexts), int(contexts.loss_mask.sum())))
    positions = sum(count for _, count in shares)
    sum(loss * count / positions for loss, count in shares).backward()
    torch.nn.utils.clip_grad_norm_(student.parameters(), recipe.training.clip_norm)
    torch.optim.AdamW(student.parameters(), lr=0.01, betas=recipe.training.adam_betas, weight_decay=0.0).step()
    saved = load_run(tmp_path / "run").model.state_dict()
    for name, expected in student.state_dict().items():
        torch.testing.assert_close(saved[name], expected, atol=2e-3, rtol=0)  # stored in fp16


@pytest.mark.slow
def test_all_processes_refuse_an_existing_run(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "keep").write_text("mine")
    done = launch(make_recipe("imitkd+full"), tmp_path)
    assert done.returncode != 0 and "exists already" in done.stderr
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["keep"]
