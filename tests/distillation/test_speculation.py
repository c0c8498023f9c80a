"""Speculative contexts, against the rule of the paper applied token by token to whole prefixes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from compressor.config import Recipe
from compressor.data.random_draws import Stream, uniform
from compressor.distillation.rollout import SampleKey, rollout
from compressor.distillation.setup import Setup, set_up
from compressor.distillation.trainer import Trainer
from compressor.errors import ConfigError
from compressor.method_config import RolloutConfig
from compressor.models.base import Seq2SeqModel
from compressor.teachers.native import NativeTeacher

LIMIT = 22


def probabilities(model: Seq2SeqModel, source: list[int], prefix: list[int], setup: Setup) -> np.ndarray:
    """[vocab], of the next token; suppressed tokens have none."""
    tokens = torch.tensor([source])
    with torch.no_grad():
        memory = model.eval().encode(tokens, torch.ones_like(tokens, dtype=torch.bool))
        logits = model.decode(memory, torch.tensor([prefix]))[0, -1].double()
    logits[list(setup.generation.suppressed_ids)] = -torch.inf
    return logits.softmax(dim=0).numpy()


def sample(distribution: np.ndarray, count: int, draw: float) -> int:
    best = np.argsort(-distribution, kind="stable")[:count]
    below = np.cumsum(distribution[best] / distribution[best].sum())
    return int(best[np.searchsorted(below, draw, side="right")])


def write_together(setup: Setup, key: SampleKey, config: RolloutConfig) -> tuple[list[int], int]:
    """Returns the output, and how many tokens of it the teacher replaced."""
    source = setup.train.sources[key.example].tolist()
    draws = [uniform(stream, *key[:2], [key.example], LIMIT)[0] for stream in (Stream.ROLLOUT, Stream.REPLACEMENT)]
    prefix, replaced = [setup.generation.start_id], 0
    for proposal, replacement in zip(*draws, strict=True):
        student = probabilities(setup.student, source, prefix, setup)
        teacher = probabilities(setup.teacher.model, source, prefix, setup)
        token = sample(student, config.top_k, proposal)
        if token not in np.argsort(-teacher)[: config.teacher_top_k]:
            token, replaced = sample(teacher, config.teacher_top_k, replacement), replaced + 1
        if len(prefix) == LIMIT and setup.generation.forced_eos_id is not None:
            token = setup.generation.forced_eos_id
        prefix.append(token)
        if token == setup.generation.eos_id:
            break
    return prefix[1:], replaced


@pytest.mark.parametrize(("top_k", "teacher_top_k"), [(5, 10), (1, 3), (5, 1)])
def test_tokens_outside_the_teachers_best_are_replaced(
    make_recipe: Callable[..., Recipe], top_k: int, teacher_top_k: int
) -> None:
    setup = set_up(make_recipe("imitkd+full"))
    config = RolloutConfig(strategy="speculative", top_k=top_k, teacher_top_k=teacher_top_k)
    keys = [SampleKey(1, 3, index) for index in range(8)]
    expected = [write_together(setup, key, config) for key in keys]
    tokens = sum(len(output) for output, _ in expected)
    assert 0 < sum(replaced for _, replaced in expected) <= tokens
    assert len({len(output) for output, _ in expected}) > 1 or teacher_top_k > 1  # rows leave the batch early
    sources = [setup.train.sources[index] for index in range(8)]
    for batch_tokens in (999, 24):
        outputs = rollout(
            setup.student,
            sources,
            setup.generation,
            config,
            max_new_tokens=LIMIT,
            batch_tokens=batch_tokens,
            keys=keys,
            teacher=setup.teacher.model,
        )
        assert outputs == [output for output, _ in expected]


def test_a_teacher_that_cannot_step_is_refused(
    make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = set_up(make_recipe("imitkd", method_section={"rollout": {"strategy": "speculative"}}))
    monkeypatch.setattr(NativeTeacher, "as_model", lambda _: None)
    with pytest.raises(ConfigError, match=r"rollout\.strategy: speculative needs a teacher that is a run,.*; tiny has"):
        Trainer(setup)
