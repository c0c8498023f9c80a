"""Rollouts by a second process: with which weights, in which order, and what happens when it ends."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import pytest
import torch

from compressor.config import Recipe
from compressor.data.batching import Batch
from compressor.distillation.background import BackgroundRollouts
from compressor.distillation.checkpoint import Progress
from compressor.distillation.contexts import Contexts
from compressor.distillation.rollout import SampleKey, rollout
from compressor.distillation.run import distill
from compressor.distillation.setup import set_up
from compressor.distillation.trainer import Trainer
from compressor.errors import ConfigError, LostProcess
from compressor.method_config import RolloutConfig
from compressor.models.base import Seq2SeqModel
from compressor.run_folder import read_record
from tests.models.test_contract import lively
from tests.models.test_transformer import RULES, sources

pytestmark = pytest.mark.slow  # a second process takes ten seconds to start

KEYS = [SampleKey(3, 0, example) for example in range(4)]
SETTINGS: dict[str, Any] = {
    "generation": RULES,
    "config": RolloutConfig(strategy="topk", top_k=3),
    "max_new_tokens": 9,
    "batch_tokens": 100,
}


def texts() -> list[Any]:
    batch, mask = sources(4)
    return [row[valid].numpy() for row, valid in zip(batch, mask, strict=True)]


def shift(student: Seq2SeqModel) -> None:
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter))


@pytest.fixture
def student() -> Seq2SeqModel:
    return lively("transformer")


def test_outputs_are_those_of_the_weights_at_the_beginning(student: Seq2SeqModel) -> None:
    background = BackgroundRollouts(student, partial(rollout, **SETTINGS))
    for _ in range(2):
        shift(student)
        before = copy.deepcopy(student)
        background.begin(student, texts(), KEYS)
        shift(student)
        assert background.take() == rollout(before, texts(), keys=KEYS, **SETTINGS)


def test_a_mistake_there_is_raised_here_and_a_killed_process_is_named(student: Seq2SeqModel) -> None:
    background = BackgroundRollouts(student, partial(rollout, **SETTINGS))
    background.begin(student, [[1, 2]], [])
    with pytest.raises(IndexError):
        background.take()
    process = background._finalizer.peek()[2][0]  # type: ignore[index]
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with pytest.raises(LostProcess, match=r"rollout\.background"):
        background.begin(student, texts(), KEYS)
        background.take()


def test_the_process_ends_with_the_object(student: Seq2SeqModel) -> None:
    background = BackgroundRollouts(student, partial(rollout, **SETTINGS))
    process = background._finalizer.peek()[2][0]  # type: ignore[index]
    assert process.is_alive()
    del background
    assert not process.is_alive()


def trained(recipe: Recipe) -> list[tuple[list[Batch], list[Contexts], Seq2SeqModel, dict[str, Any]]]:
    """The groups of a run with their contexts, the student before each, and the counters at each."""
    trainer, progress, seen = Trainer(set_up(recipe)), Progress(), []
    write = trainer.write_contexts
    contexts: list[list[Contexts]] = []
    trainer.write_contexts = lambda *given: contexts.append(write(*given)) or contexts[-1]  # type: ignore[method-assign]
    for group in trainer.groups(progress):
        before, counters = copy.deepcopy(trainer.student), asdict(progress)
        stats = trainer.train_group(group, progress.updates)
        seen.append((group, contexts[-1], before, counters))
        progress.updates += len(stats)
    return seen


def test_each_group_is_written_by_the_student_before_the_last_group(make_recipe: Callable[..., Recipe]) -> None:
    def recipe(background: bool) -> Recipe:
        method = {"schedule": {"name": "constant", "value": 0.3}, "rollout": {"batches": 2, "background": background}}
        steps = {"updates": 9, "learning_rate": 0.05, "warmup_updates": 0}
        return make_recipe("imitkd+full", method_section=method, training=steps)

    ahead, plain = trained(recipe(True)), trained(recipe(False))
    assert [counters for *_, counters in ahead] == [counters for *_, counters in plain]
    assert [[batch.indices for batch in group] for group, *_ in ahead] == [
        [batch.indices for batch in group] for group, *_ in plain
    ]
    trainer, changed = Trainer(set_up(recipe(False))), 0
    for number, (group, contexts, before, _) in enumerate(ahead):
        writer = ahead[max(0, number - 1)][2]
        for student, same in ((writer, True), (before, number == 0)):
            trainer.student.load_state_dict(student.state_dict())
            expected = trainer.write_contexts(group, 0.3)
            pairs = list(zip(contexts, expected, strict=True))
            equal = all(torch.equal(given.tokens, wanted.tokens) for given, wanted in pairs)
            assert equal or not same
            changed += not equal
    assert changed  # the weights made a difference


def test_a_whole_run(make_recipe: Callable[..., Recipe], tmp_path: Any) -> None:
    recipe = make_recipe("imitkd", method_section={"rollout": {"batches": 2, "background": True}})
    assert read_record(distill(recipe, tmp_path / "run", progress=False)).updates == recipe.training.updates


def test_a_gpu_is_refused(make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(set_up(make_recipe("imitkd", method_section={"rollout": {"background": True}})))
    monkeypatch.setattr(trainer.accelerator.state, "device", torch.device("meta"))
    with pytest.raises(ConfigError, match=r"background: is for training on a processor"):
        trainer.writer._background()
