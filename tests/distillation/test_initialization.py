"""A student that starts from its teacher computes what the teacher computes, as far as it has the same parts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from compressor.config import Recipe, parse_recipe
from compressor.distillation.estimate import estimate
from compressor.distillation.initialization import initialize
from compressor.distillation.run import distill
from compressor.distillation.setup import set_up
from compressor.distillation.trainer import Trainer
from compressor.errors import ConfigError
from compressor.model_config import TransformerModelConfig
from compressor.models.layer_copy import copy_layers, spaced
from compressor.models.transformer import Transformer

SIZES = {"vocab_size": 41, "pad_id": 0, "d_model": 16, "num_heads": 2, "max_length": 32}


def transformer(layers: tuple[int, int] = (3, 2), ffn: int = 24, **changes: object) -> Transformer:
    shape = {"encoder_layers": layers[0], "decoder_layers": layers[1], "encoder_ffn": ffn, "decoder_ffn": ffn}
    return Transformer(TransformerModelConfig(**(SIZES | shape | changes))).eval()


def logits(model: Transformer) -> Tensor:
    source = torch.arange(1, 22).view(3, 7)
    return model.decode(model.encode(source, source > 0), source[:, :5])


class Advisor:
    """The part of a teacher that is asked here."""

    name = "advisor"

    def __init__(self, model: Transformer | None) -> None:
        self.model = model

    def as_model(self) -> Transformer | None:
        return self.model


BART = {"positions": "learned", "embedding_norm": True}


@pytest.mark.parametrize("layout", [{}, {"norm": "pre"}, BART], ids=["post", "pre", "bart"])
def test_copied_layers_of_equal_shape_give_equal_logits(layout: dict[str, object]) -> None:
    teacher, student = transformer(**layout), transformer(**layout)
    with torch.no_grad():
        for parameter in teacher.parameters():  # no zeros and ones, which hide a mistake
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    initialize(student, Advisor(teacher), "teacher_layers")
    torch.testing.assert_close(logits(student), logits(teacher), atol=1e-6, rtol=0)


def test_copy_drops_hidden_units_without_effect() -> None:
    teacher, student = transformer(ffn=24), transformer(ffn=16)
    with torch.no_grad():
        for layer in (*teacher.encoder, *teacher.decoder):
            layer.feed_forward.contract.weight[:, [0, 3, 5, 8, 13, 20, 21, 23]] = 0.0
    copy_layers(teacher, student)
    torch.testing.assert_close(logits(student), logits(teacher), atol=1e-6, rtol=0)


def test_copied_layers_are_spread_from_first_to_last() -> None:
    assert [spaced(6, wanted) for wanted in (1, 2, 3, 6)] == [[5], [0, 5], [0, 2, 5], [0, 1, 2, 3, 4, 5]]
    teacher, student = transformer((3, 2)), transformer((2, 1))
    copy_layers(teacher, student)
    source = torch.arange(1, 8)[None]
    hidden = teacher._embed(source, teacher.positions[:7], "source")
    for layer in (teacher.encoder[0], teacher.encoder[2]):
        hidden = layer(hidden, (source > 0)[:, None, None], False)
    torch.testing.assert_close(student.encode(source, source > 0).hidden, hidden)


def test_teacher_of_another_shape_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        initialize(transformer((4, 2), d_model=24, num_heads=1), Advisor(transformer()), "teacher_layers")
    assert error.value.problems == [
        "student.d_model: 24 is more than the teacher's 16",
        "student.encoder_layers: 4 is more than the teacher's 3",
        "student.num_heads: 1 makes heads of 24, the teacher's are 8; give more",
    ]
    with pytest.raises(ConfigError, match="only runs, Marian and BART checkpoints"):
        initialize(transformer(), Advisor(None), "teacher_layers")


def test_an_embedding_in_barts_layout_is_copied_at_its_own_width_alone() -> None:
    with pytest.raises(ConfigError) as error:
        initialize(transformer(d_model=8, max_length=40, **BART), Advisor(transformer(**BART)), "teacher_layers")
    assert [problem.partition(":")[0] for problem in error.value.problems] == ["student.d_model", "student.max_length"]
    with pytest.raises(ConfigError, match=r"student.positions: sinusoidal, the teacher's is learned"):
        initialize(transformer(), Advisor(transformer(**BART)), "teacher_layers")


def test_a_narrower_student_starts_nearer_to_its_teacher(make_recipe: Callable[..., Recipe]) -> None:
    """Half the teacher's width, with trained gains: approximate, and better than embeddings or nothing."""
    losses = []
    for start in ("teacher_layers", "teacher_embeddings", "random"):
        trainer = Trainer(set_up(make_recipe("vanilla+full", training={"initialization": start})))
        assert trainer.student.config.d_model == 16
        batch = trainer.batches.collate(list(range(8)))
        (contexts,) = trainer.write_contexts([batch], 1.0)
        losses.append(trainer.loss(batch, contexts).item())
    assert losses[0] < min(losses[1:])


@pytest.mark.parametrize("start", ["random", "teacher_embeddings"])
def test_a_fine_tune_of_an_untrained_student_is_refused(
    make_recipe: Callable[..., Recipe], tmp_path: Path, start: str
) -> None:
    recipe = make_recipe("seqinter", training={"initialization": start})
    for begin in (partial(distill, out=tmp_path / "run"), estimate):
        with pytest.raises(ConfigError, match=rf"initialization: {start}, but seqinter is a fine-tune on top of anoth"):
            begin(recipe)
    assert not (tmp_path / "run").exists()
    assert parse_recipe(recipe.model_dump()) == recipe  # older runs, and labels, have such recipes
