"""Training on a GPU: an update, rollouts, resuming. ``pytest -m gpu`` runs these where PyTorch has one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from compressor.config import Recipe
from compressor.distillation.checkpoint import Progress
from compressor.distillation.context_writer import examples_of
from compressor.distillation.rollout import SampleKey, rollout
from compressor.distillation.run import distill
from compressor.distillation.setup import set_up
from compressor.distillation.trainer import Trainer
from compressor.method_config import RolloutConfig
from compressor.models.weights import load_run
from compressor.run_folder import is_finished
from tests.distillation.killed_runs import killed_at, losses
from tests.distillation.test_trainer import expected_loss

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch has no GPU")]

DEVICE = "cuda"
Make = Callable[..., Recipe]


def on_processor(trainer: Trainer) -> Any:
    """What ``expected_loss`` reads of a trainer, with copies of both models on the processor, in fp32."""
    teacher = SimpleNamespace(model=copy.deepcopy(trainer.setup.teacher.model).cpu())
    setup = SimpleNamespace(teacher=teacher, generation=trainer.setup.generation)
    return SimpleNamespace(student=copy.deepcopy(trainer.student).cpu(), setup=setup)


@pytest.mark.parametrize("method", ["vanilla", "vanilla+full", "imitkd", "imitkd+full"])
def test_an_update_in_bf16_has_the_processors_loss_and_lowers_it(make_recipe: Make, method: str) -> None:
    training = {"precision": "bf16", "warmup_updates": 0, "learning_rate": 0.01}
    trainer = Trainer(set_up(make_recipe(method, training=training)))
    assert {parameter.device.type for parameter in trainer.student.parameters()} == {DEVICE}
    group = next(trainer.groups(Progress()))[:1]
    (contexts,) = trainer.write_contexts(group, 0.5)
    batch = group[0].to("cpu")
    expected = expected_loss(on_processor(trainer), batch, contexts.to("cpu"), method.endswith("+full"))
    stats = trainer._update([(group[0], contexts)], 0.5, 0)
    assert stats.loss == pytest.approx(expected, rel=0.03)
    assert expected_loss(on_processor(trainer), batch, contexts.to("cpu"), method.endswith("+full")) < expected


@pytest.mark.parametrize("strategy", ["greedy", "topk"])
def test_rollouts_are_the_processors(make_recipe: Make, tiny_run: Path, strategy: str) -> None:
    """In fp32, by a trained model, whose best tokens are no near-ties."""
    setup = set_up(make_recipe("imitkd"))
    model, sources = load_run(tiny_run).model, [setup.train.sources[index].tolist() for index in range(40)]
    keys = [SampleKey(1, 0, index) for index in range(len(sources))]
    config, limits = RolloutConfig(strategy=strategy, top_k=2), {"max_new_tokens": 16, "batch_tokens": 200}
    expected = rollout(model.cpu(), sources, setup.generation, config, keys=keys, **limits)
    assert rollout(model.to(DEVICE), sources, setup.generation, config, keys=keys, **limits) == expected
    assert len({tuple(tokens) for tokens in expected}) > 20


def test_the_trainers_rollouts_in_bf16_end_and_may_be_written(make_recipe: Make) -> None:
    trainer = Trainer(set_up(make_recipe("imitkd+full", training={"precision": "bf16"})))
    group = next(trainer.groups(Progress()))
    suppressed = set(trainer.setup.generation.suppressed_ids)
    outputs = trainer.writer.roll_out(examples_of(group))
    assert outputs and all(0 < len(tokens) <= 24 and suppressed.isdisjoint(tokens) for tokens in outputs)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resumed_run_has_the_losses_of_an_uninterrupted_one(
    make_recipe: Make, tmp_path: Path, precision: str
) -> None:
    """Sums on a GPU have no fixed order, so losses are close and not equal."""
    training = {"precision": precision, "eval_every": 6, "checkpoint_minutes": 1e-9}
    recipe = make_recipe("imitkd+full", updates=16, training=training)
    distill(recipe, tmp_path / "whole", progress=False)
    with killed_at(8):
        distill(recipe, tmp_path / "resumed", progress=False)
    assert is_finished(distill(recipe, tmp_path / "resumed", resume=True, progress=False))
    whole, resumed = (losses(tmp_path / name) for name in ("whole", "resumed"))
    assert resumed == pytest.approx(whole, rel=0.02)
