"""Distillation from a Hugging Face teacher of each family: three updates of ImitKD + Full, and the run loads again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.models.m2m_100.modeling_m2m_100 import shift_tokens_right

from compressor.config import Recipe, parse_recipe
from compressor.decoding.search import greedy, pad_sources
from compressor.distillation.contexts import build_contexts
from compressor.distillation.label_store import LabelStore
from compressor.distillation.run import distill
from compressor.distillation.setup import set_up
from compressor.distillation.trainer import Trainer
from compressor.errors import ConfigError, VocabularyError
from compressor.models.weights import load_run
from tests.teachers.conftest import RECIPE_FIELDS, Pair

SUMMARIZERS = ("bart", "t5")


def recipe_of(pair: Pair, corpus: Path, family: str, **changes: object) -> Recipe:
    values = {
        "task": "summarization" if family in SUMMARIZERS else "translation",
        "source_language": "de",
        "target_language": "en",
        "data": {
            "root": str(corpus),
            "train": [{"source": "train.de", "target": "train.en", "size": 40}],
            "mono": [{"source": "train.de"}],
            "dev": [{"source": "dev.de", "target": "dev.en", "size": 6}],
            "max_source_tokens": 30,
            "max_target_tokens": 30,
        },
        "teacher": {"path": pair.config.path, **RECIPE_FIELDS[family]},
        "student": {
            "d_model": 8,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "num_heads": 2,
            "encoder_ffn": 8,
            "decoder_ffn": 8,
            "max_length": 32,
            "dropout": 0.0,
        },
        "method": {"name": "imitkd+full", "schedule": {"name": "constant", "value": 0.5}, "rollout": {"batches": 2}},
        "training": {"updates": 3, "batch_tokens": 150, "warmup_updates": 1, "precision": "fp32", "threads": 1},
    }
    return parse_recipe(values | changes)


@pytest.mark.parametrize("family", list(RECIPE_FIELDS))
def test_distilling_each_family_writes_a_loadable_run(
    open_pair: Callable[[str], Pair], tiny_corpus: Path, tmp_path: Path, family: str
) -> None:
    pair = open_pair(family)
    out = distill(recipe_of(pair, tiny_corpus, family), tmp_path / "run", progress=False)
    run = load_run(out)
    rules, teacher = run.generation, pair.ours.generation
    assert rules == teacher.model_copy(update={"max_source_tokens": 30, "max_new_tokens": rules.max_new_tokens})
    assert rules.max_new_tokens == min(30, teacher.max_new_tokens)
    assert run.model.config.vocab_size == pair.ours.vocab_size
    assert run.tokenizer.vocab == pair.ours.tokenizer.vocab
    text = "Der Hund sieht den Baum."
    assert run.tokenizer.encode_source(text) == pair.their_ids(text)
    [tokens] = greedy(run.model, rules, *pad_sources([run.tokenizer.encode_source(text)], rules.pad_id))
    assert not set(tokens) & (set(rules.suppressed_ids))
    assert rules.forced_bos_id in (None, tokens[0])
    info = json.loads((out / "run.json").read_text("utf-8"))
    assert info["finished"] and info["teacher"]["parameters"] == pair.trained_numbers
    losses = [json.loads(line).get("loss") for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert all(torch.isfinite(torch.tensor(loss)) for loss in losses if loss is not None)


@pytest.mark.parametrize("family", list(RECIPE_FIELDS))
def test_reference_contexts_match_hugging_face_decoder_inputs(
    open_pair: Callable[[str], Pair], tiny_corpus: Path, family: str
) -> None:
    """A reference becomes the context that the library makes from the same labels (``shift_tokens_right``)."""
    pair = open_pair(family)
    setup = set_up(recipe_of(pair, tiny_corpus, family))
    text = (tiny_corpus / "train.en").read_text(encoding="utf-8").splitlines()[0]
    contexts = build_contexts([setup.train.targets[0]], [True], setup.generation)
    labels = torch.tensor([pair.tokenizer(text_target=text).input_ids])
    match family:
        case "mbart":  # the library wraps the language at the end of the labels around, to the start
            expected = torch.cat([labels[:, -1:], labels[:, :-2]], dim=1)
        case "m2m100":
            expected = shift_tokens_right(labels, pad_token_id=1, decoder_start_token_id=2)
        case _:
            expected = pair.model.prepare_decoder_input_ids_from_labels(labels)
    assert contexts.tokens.tolist() == expected.tolist()
    assert contexts.loss_mask.all()


def test_loss_ignores_rows_without_a_token(open_pair: Callable[[str], Pair], tiny_corpus: Path) -> None:
    """T5: teacher and student give rows without a token probability zero, and the loss is finite."""
    pair = open_pair("t5")
    trainer = Trainer(set_up(recipe_of(pair, tiny_corpus, "t5")))
    batch = trainer.batches.collate([0, 1, 2])
    contexts = build_contexts([trainer.setup.train.targets[i] for i in range(3)], [True] * 3, trainer.setup.generation)
    loss = trainer.loss(batch, contexts).item()
    with torch.no_grad():
        theirs = pair.model(
            input_ids=batch.source, attention_mask=batch.source_mask.long(), decoder_input_ids=contexts.tokens
        ).logits
        ours = trainer.student.decode(trainer.student.encode(batch.source, batch.source_mask), contexts.tokens)
    hidden = [5, *range(len(pair.tokenizer), pair.ours.vocab_size)]
    theirs[..., hidden] = ours[..., hidden] = -torch.inf
    cross = -(theirs.softmax(-1) * ours.log_softmax(-1).masked_fill(torch.isinf(ours), 0.0)).sum(-1)
    assert loss == pytest.approx(cross[contexts.loss_mask].mean().item(), rel=1e-5)


def test_seqkd_records_teacher_outputs_of_every_source(
    open_pair: Callable[[str], Pair], tiny_corpus: Path, tmp_path: Path
) -> None:
    pair = open_pair("bart")
    recipe = recipe_of(pair, tiny_corpus, "bart")
    method, data = recipe.method.model_copy(update={"name": "seqkd"}), recipe.data.model_copy(update={"mono": []})
    out = distill(recipe.model_copy(update={"method": method, "data": data}), tmp_path / "run", progress=False)
    store = LabelStore.open(out / "labels")
    assert len(store) == 40
    assert all(store.output(index)[0] == 0 and store.output(index)[-1] == 2 for index in range(40))


def test_tokenizer_of_another_teacher_is_refused(open_pair: Callable[[str], Pair], tiny_corpus: Path) -> None:
    recipe = recipe_of(open_pair("bart"), tiny_corpus, "bart", tokenizer={"path": open_pair("marian").config.path})
    with pytest.raises(VocabularyError, match=r"320 and \d+ tokens; \d+ differ, first"):
        set_up(recipe)


def test_lengths_are_checked_before_training(open_pair: Callable[[str], Pair], tiny_corpus: Path) -> None:
    recipe = recipe_of(open_pair("bart"), tiny_corpus, "bart")
    data = recipe.data.model_copy(update={"max_source_tokens": 41, "max_target_tokens": 32})
    with pytest.raises(ConfigError) as error:
        set_up(recipe.model_copy(update={"data": data}))
    assert error.value.problems == [
        "data.max_source_tokens: 41 is more than the teacher's 40",
        "data.max_target_tokens: 32 is more than the student's 31",
    ]


def test_teacher_embeddings_initialization_is_a_pca_of_the_table(
    open_pair: Callable[[str], Pair], tiny_corpus: Path
) -> None:
    pair = open_pair("mbart")
    recipe = recipe_of(pair, tiny_corpus, "mbart")
    training = recipe.training.model_copy(update={"initialization": "teacher_embeddings"})
    setup = set_up(recipe.model_copy(update={"training": training}))
    table = setup.student.get_parameter("embedding.shared").detach().numpy()
    pad = setup.generation.pad_id
    assert not table[pad].any()
    theirs = np.delete(pair.model.get_input_embeddings().weight.detach().numpy(), pad, axis=0)
    centred = theirs - theirs.mean(axis=0)
    components = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :8]  # principal components, the largest first
    projected, ours = centred @ components, np.delete(table, pad, axis=0)
    ratios = np.linalg.norm(ours[1:] - ours[0], axis=1) / np.linalg.norm(projected[1:] - projected[0], axis=1)
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-3)
