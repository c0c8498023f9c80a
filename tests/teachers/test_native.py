"""A run of this project as a teacher."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from compressor.decoding.search import pad_sources
from compressor.errors import ConfigError, ModelError
from compressor.teacher_config import TeacherConfig
from compressor.teachers.native import NativeTeacher
from compressor.teachers.registry import load_teacher

SENTENCES = ["Der Hund sieht den Baum.", "Der Arzt sucht den Vogel.", "Der Tisch."]


@pytest.fixture(scope="module")
def teacher(tiny_run: Path) -> NativeTeacher:
    opened = load_teacher(TeacherConfig(path=str(tiny_run)))
    assert isinstance(opened, NativeTeacher)
    return opened


def sources(teacher: NativeTeacher) -> tuple[torch.Tensor, torch.Tensor]:
    encoded = [teacher.tokenizer.encode_source(text) for text in SENTENCES]
    return pad_sources(encoded, teacher.generation.pad_id)


def log_probs(teacher: NativeTeacher, row: int, tokens: list[int]) -> torch.Tensor:
    """[len(tokens), vocab] for one source, computed prefix by prefix; no token is suppressed."""
    source = torch.tensor([teacher.tokenizer.encode_source(SENTENCES[row])])
    mask = torch.ones_like(source, dtype=torch.bool)
    rows = []
    for length in range(len(tokens)):
        context = torch.tensor([[teacher.generation.start_id, *tokens[:length]]])
        loss_mask = torch.zeros_like(context, dtype=torch.bool)
        loss_mask[0, -1] = True
        rows.append(teacher.logits(source, mask, context, loss_mask)[0])
    return torch.stack(rows).log_softmax(dim=-1)


def test_attributes_match_the_run(teacher: NativeTeacher, tiny_run: Path) -> None:
    assert teacher.name == tiny_run.name
    assert teacher.vocab_size == teacher.tokenizer.vocab_size == 52
    assert teacher.parameters == sum(tensor.numel() for tensor in teacher.model.parameters())
    assert (teacher.max_source, teacher.max_context) == (32, 32)
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())


def test_batched_logits_match_single_prefixes(teacher: NativeTeacher) -> None:
    source, mask = sources(teacher)
    context = torch.tensor([[teacher.generation.start_id, 7, 9, 11]] * len(SENTENCES))
    loss_mask = torch.tensor([[True, True, False, True], [True, False, False, False], [False, True, True, True]])
    logits = teacher.logits(source, mask, context, loss_mask).log_softmax(dim=-1)
    singles = [log_probs(teacher, row, [7, 9, 11, 4]) for row in range(len(SENTENCES))]
    expected = torch.stack([singles[row][column] for row, column in loss_mask.nonzero().tolist()])
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


def test_greedy_takes_the_most_probable_token_at_every_step(teacher: NativeTeacher) -> None:
    for row, [best] in enumerate(teacher.generate(*sources(teacher), num_beams=1)):
        scores = log_probs(teacher, row, best.tokens)
        scores[:, list(teacher.generation.suppressed_ids)] = -math.inf
        assert scores.argmax(dim=-1).tolist() == best.tokens
        assert best.tokens[-1] == teacher.generation.eos_id and math.isnan(best.score)
    assert teacher.tokenizer.decode(teacher.generate(*sources(teacher), 1)[0][0].tokens).startswith("The ")


@pytest.mark.parametrize("length_penalty", [0.0, 1.5])
def test_n_best_scores_match_log_probabilities(teacher: NativeTeacher, tiny_run: Path, length_penalty: float) -> None:
    other = load_teacher(TeacherConfig(path=str(tiny_run), length_penalty=length_penalty))
    assert other.generation.length_penalty == length_penalty
    for row, hypotheses in enumerate(other.generate(*sources(teacher), num_beams=5, num_return=4)):
        assert len({tuple(hypothesis.tokens) for hypothesis in hypotheses}) == 4
        assert sorted(hypotheses, key=lambda hypothesis: -hypothesis.score) == hypotheses
        for hypothesis in hypotheses:
            scores = log_probs(teacher, row, hypothesis.tokens)
            total = sum(scores[i, token].item() for i, token in enumerate(hypothesis.tokens))
            assert hypothesis.score == pytest.approx(total / len(hypothesis.tokens) ** length_penalty, abs=1e-4)


def test_embeddings_are_scaled_by_the_square_root_of_the_width(teacher: NativeTeacher) -> None:
    table = teacher.model.get_parameter("embedding.shared")
    torch.testing.assert_close(teacher.embeddings(), table * math.sqrt(32))


def test_recipe_overrides_max_new_tokens(tiny_run: Path) -> None:
    short = load_teacher(TeacherConfig(path=str(tiny_run), max_new_tokens=3))
    assert isinstance(short, NativeTeacher)
    assert all(len(best.tokens) == 3 for [best] in short.generate(*sources(short), num_beams=2))
    with pytest.raises(ConfigError, match=r"teacher\.max_new_tokens: 33 is more than the teacher's 32"):
        load_teacher(TeacherConfig(path=str(tiny_run), max_new_tokens=33))
    assert short.to("meta").model.get_parameter("embedding.shared").device.type == "meta"


def test_damaged_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(ModelError, match=r"model\.json: damaged") as error:
        load_teacher(TeacherConfig(path=str(tmp_path)))
    assert "\n" not in str(error.value)
