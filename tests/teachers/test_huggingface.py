"""Tokenizers, logits and searches of every family match Hugging Face's own."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch

from compressor.generation_config import until_eos
from compressor.teacher_config import TeacherConfig
from compressor.teachers.huggingface import HuggingFaceTeacher
from compressor.text.tokenizer import load_tokenizer
from tests.teachers.conftest import SENTENCES, Pair


@pytest.mark.parametrize("text", SENTENCES)
def test_source_ids_match_hugging_face(pair: Pair, text: str) -> None:
    assert pair.ours.tokenizer.encode_source(text) == pair.their_ids(text)


def test_target_ids_match_hugging_face_plus_eos(pair: Pair) -> None:
    for text in ("The dog sees the tree.", "The boy"):
        plain = pair.tokenizer(text_target=text, add_special_tokens=False).input_ids
        assert pair.ours.tokenizer.encode_target(text) == [*plain, pair.tokenizer.eos_token_id]


def test_decoding_matches_hugging_face(pair: Pair) -> None:
    rules, tokenizer = pair.ours.generation, pair.ours.tokenizer
    for text in ("The dog sees the tree.", "The boy kennt, 3 Vögel!"):
        ids = tokenizer.encode_target(text)
        framed = [rules.start_id, *ids, rules.pad_id]
        assert tokenizer.decode(framed) == pair.tokenizer.decode(framed, skip_special_tokens=True).strip()
        if rules.forced_bos_id is not None:
            assert tokenizer.decode([rules.forced_bos_id, *framed]) == tokenizer.decode(framed)
        assert tokenizer.decode([*ids, tokenizer.vocab_size, tokenizer.vocab_size + 5]) == tokenizer.decode(ids)


def test_saved_tokenizer_encodes_the_same(pair: Pair, tmp_path) -> None:
    pair.ours.tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.vocab == pair.ours.tokenizer.vocab
    assert [again.encode_source(text) for text in SENTENCES] == [pair.their_ids(text) for text in SENTENCES]


def test_vocabulary_and_sizes_match_hugging_face(pair: Pair) -> None:
    assert pair.ours.tokenizer.vocab.items() <= pair.tokenizer.get_vocab().items()
    assert pair.ours.vocab_size == pair.model.get_output_embeddings().weight.shape[0]
    assert pair.ours.parameters == pair.trained_numbers


def test_logits_match_hugging_face_at_selected_positions(pair: Pair) -> None:
    source, mask = pair.batch()
    generator = torch.Generator().manual_seed(0)
    context = torch.randint(4, 50, (len(SENTENCES), 6), generator=generator)
    context[:, 0] = pair.ours.generation.start_id
    loss_mask = torch.rand(context.shape, generator=generator) < 0.6
    with torch.no_grad():
        theirs = pair.model(input_ids=source, attention_mask=mask.long(), decoder_input_ids=context).logits
    expected = torch.stack([theirs[row, column] for row, column in loss_mask.nonzero().tolist()])
    actual = pair.ours.logits(source, mask, context, loss_mask)
    assert not actual.requires_grad
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def hugging_face_outputs(pair: Pair, num_beams: int | None, **more: object) -> list[list[int]]:
    """Outputs under the checkpoint's own generation configuration, the recipe's languages, and no empty rows."""
    rules = pair.ours.generation
    source, mask = pair.batch()
    if "source_language" in pair.config.model_fields_set:
        language = pair.tokenizer.convert_tokens_to_ids(pair.config.target_language)
        if pair.tokenizer.__class__.__name__ == "M2M100Tokenizer":
            language = pair.tokenizer.get_lang_id(pair.config.target_language)
        more["decoder_start_token_id" if rules.start_id == language else "forced_bos_token_id"] = language
    if pair.model.config.model_type in ("t5", "m2m_100"):
        more["suppress_tokens"] = list(rules.suppressed_ids)
    if num_beams is not None:
        more["num_beams"] = num_beams
    output = pair.model.generate(input_ids=source, attention_mask=mask.long(), **more)
    rows = output if isinstance(output, torch.Tensor) else output.sequences
    return [until_eos(row, rules.eos_id, rules.pad_id) for row in rows[:, 1:].tolist()]


def test_greedy_search_matches_hugging_face(pair: Pair) -> None:
    hypotheses = pair.ours.generate(*pair.batch(), num_beams=1)
    assert [best.tokens for [best] in hypotheses] == hugging_face_outputs(pair, 1)
    assert all(math.isnan(best.score) for [best] in hypotheses)


def test_beam_search_matches_hugging_face(pair: Pair) -> None:
    """With the checkpoint's own number of beams, length penalty, early stopping and forced tokens."""
    hypotheses = pair.ours.generate(*pair.batch(), num_beams=pair.ours.generation.num_beams)
    assert [best.tokens for [best] in hypotheses] == hugging_face_outputs(pair, None)


@pytest.mark.parametrize("renormalize", [True, False])
@pytest.mark.parametrize("num_return", [1, 3])
def test_converted_marian_beam_search_matches_hugging_face(
    open_pair: Callable[[str], Pair], num_return: int, renormalize: bool
) -> None:
    """With renormalized logits, as opus-mt models are configured, and without."""
    pair = open_pair("marian")
    teacher = copy.copy(pair.ours)
    teacher.generation = teacher.generation.model_copy(update={"renormalize_logits": renormalize})
    hypotheses = teacher.generate(*pair.batch(), num_beams=4, num_return=num_return)
    expected = hugging_face_outputs(pair, 4, num_return_sequences=num_return, renormalize_logits=renormalize)
    assert [hypothesis.tokens for row in hypotheses for hypothesis in row] == expected
    assert not any(math.isnan(hypothesis.score) for row in hypotheses for hypothesis in row)


def test_n_best_outputs_match_hugging_face_in_descending_score(pair: Pair) -> None:
    hypotheses = pair.ours.generate(*pair.batch(), num_beams=4, num_return=3)
    expected = hugging_face_outputs(pair, 4, num_return_sequences=3)
    assert [hypothesis.tokens for row in hypotheses for hypothesis in row] == expected
    for row in hypotheses:
        assert sorted(row, key=lambda hypothesis: -hypothesis.score) == row


def test_test_checkpoints_give_different_outputs_that_end(open_pair: Callable[[str], Pair]) -> None:
    """Comparisons need this: outputs differ between sources, and some end before the limit."""
    for family in ("marian", "bart", "t5", "mbart"):
        teacher = open_pair(family).ours
        rows = [best.tokens for [best] in teacher.generate(*open_pair(family).batch(), num_beams=1)]
        assert len(set(map(tuple, rows))) > 1
        assert any(len(row) < teacher.generation.max_new_tokens for row in rows), family


def test_rows_without_a_token_are_never_generated(open_pair: Callable[[str], Pair]) -> None:
    pair = open_pair("t5")
    teacher = HuggingFaceTeacher(pair.config)
    empty = range(len(pair.tokenizer), teacher.vocab_size)
    assert len(empty) == 7 and set(empty) <= set(teacher.generation.suppressed_ids)
    with torch.no_grad():  # every hidden state now prefers a row that has no token
        table = teacher.model.get_output_embeddings().weight
        table[list(empty)] = 50.0 * table[: len(empty)]
    source, mask = pair.batch()
    for num_beams in (1, 3):
        outputs = [best.tokens for [best] in teacher.generate(source, mask, num_beams)]
        assert not set(empty) & {token for row in outputs for token in row}
    plain = teacher.model.generate(input_ids=source, decoder_start_token_id=0, eos_token_id=1, max_new_tokens=20)
    assert set(empty) & set(plain.flatten().tolist())


def test_embeddings_match_the_decoder_input(pair: Pair) -> None:
    seen: list[torch.Tensor] = []
    decoder = pair.model.get_decoder()
    hook = decoder.embed_tokens.register_forward_hook(lambda module, arguments, output: seen.append(output))
    source, mask = pair.batch()
    with torch.no_grad():
        pair.model(input_ids=source, attention_mask=mask.long(), decoder_input_ids=source)
    hook.remove()
    plain = type(decoder.embed_tokens) is torch.nn.Embedding  # Marian scales outside of the layer, mBART inside
    scale = getattr(decoder, "embed_scale", 1.0) if plain else 1.0
    torch.testing.assert_close(pair.ours.embeddings()[source], seen[-1] * scale)


def test_to_moves_the_model(open_pair: Callable[[str], Pair]) -> None:
    teacher = HuggingFaceTeacher(TeacherConfig(path=open_pair("marian").config.path))
    assert teacher.to("meta") is teacher
    assert teacher.model.device.type == "meta"
