"""The student's earlier outputs: which are taken again, and what a checkpoint has of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compressor.config import Recipe
from compressor.data.batching import Batch
from compressor.distillation.checkpoint import Progress
from compressor.distillation.replay import ReplayBuffer
from compressor.distillation.setup import set_up
from compressor.distillation.trainer import Trainer
from compressor.errors import ModelError


def test_only_stored_outputs_are_taken_again_in_the_given_share() -> None:
    buffer = ReplayBuffer(0.3, seed=1)
    indices = list(range(4000))
    assert set(buffer.draw(indices, [1] * 4000)) == {None}
    buffer.store({index: [index, 5] for index in indices[::2]})
    outputs = buffer.draw(indices, [1] * 4000)
    assert all(output is None for output in outputs[1::2])
    taken = [index for index in indices[::2] if outputs[index] is not None]
    assert len(taken) / 2000 == pytest.approx(0.3, abs=0.06)
    assert all(list(outputs[index]) == [index, 5] for index in taken)
    again = buffer.draw(indices[::-1], [1] * 4000)[::-1]  # whatever else is in the batch
    assert [output is None for output in again] == [output is None for output in outputs]
    later = buffer.draw(indices, [2] * 4000)
    assert [output is None for output in later] != [output is None for output in outputs]


def test_outputs_survive_a_checkpoint(tmp_path: Path) -> None:
    for outputs in ({}, {7: [3, 4, 2], 1: [], 5: np.array([9], dtype=np.int32)}):
        buffer, loaded = ReplayBuffer(0.5, seed=1), ReplayBuffer(0.5, seed=1)
        buffer.store(outputs)
        buffer.save(tmp_path)
        loaded.load(tmp_path)
        assert {index: list(tokens) for index, tokens in loaded.outputs.items()} == {
            index: list(tokens) for index, tokens in outputs.items()
        }


@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0{}      ", None])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    buffer = ReplayBuffer(0.5, seed=1)
    if content is not None:
        (tmp_path / "replay.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"replay\.safetensors: the student's outputs cannot be read .*force=True"):
        buffer.load(tmp_path)


def test_a_later_visit_takes_earlier_rollouts(
    make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe("imitkd", method_section={"rollout": {"replay": 0.5}})
    trainer = Trainer(set_up(recipe))
    written: list[list[int]] = []

    def roll_out(examples: list[tuple[Batch, int]]) -> list[list[int]]:
        written.append([batch.indices[row] for batch, row in examples])
        return [[5 + batch.visit, trainer.setup.generation.eos_id] for batch, _ in examples]

    monkeypatch.setattr(trainer.writer, "roll_out", roll_out)
    batch: Batch = next(trainer.groups(Progress()))[0]
    first = trainer.write_contexts([batch], 0.0)[0]
    assert written == [batch.indices] and (first.tokens[:, 1] == 5).all()
    again = trainer.write_contexts([batch._replace(visit=1)], 0.0)[0]
    fresh = [index in written[1] for index in batch.indices]
    assert 0 < sum(fresh) < len(batch.indices)
    assert again.tokens[:, 1].tolist() == [6 if one else 5 for one in fresh]
    assert not again.from_data.any()
