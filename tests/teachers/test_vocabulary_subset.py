"""A teacher of which a student has some tokens alone, against the whole one in transformers and numpy."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers

from compressor.decoding.search import greedy, pad_sources
from compressor.errors import ModelError, VocabularyError
from compressor.models.transformer import Transformer
from compressor.teachers.subset_tokenizer import subset_tokenizer
from compressor.teachers.vocabulary_subset import SubsetTeacher, restrict_to
from compressor.text.fallback import fallback_ids
from compressor.text.tokenizer import JsonTokenizer, SentencePieceTokenizer, TextFrame, Tokenizer, load_tokenizer
from tests.teachers.conftest import Pair

CORPUS = ["Der Hund sieht den Baum.", "Der Hund malt den Arzt."]
TARGETS = ["The dog sees the tree.", "The dog paints the doctor."]
OTHER = ["Der Junge kennt den Vogel.", "Tisch Mann"]


def occurring(tokenizer: Tokenizer) -> set[int]:
    """Ids in the corpus."""
    encoded = [tokenizer.encode_source(text) for text in CORPUS] + [tokenizer.encode_target(text) for text in TARGETS]
    return {index for ids in encoded for index in ids}


@pytest.fixture
def small(pair: Pair) -> SubsetTeacher:
    return restrict_to(pair.ours, occurring(pair.ours.tokenizer))


def mapped(teacher: SubsetTeacher, ids: list[int]) -> list[int]:
    return [int(teacher.theirs[index]) for index in ids]


def batch(teacher: SubsetTeacher) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sources of two lengths with their mask, contexts, and positions that count."""
    source, mask = pad_sources([teacher.tokenizer.encode_source(text) for text in (CORPUS[0], "Baum")], 0)
    source[~mask] = teacher.generation.pad_id
    targets = [teacher.tokenizer.encode_target(text)[:5] for text in TARGETS]
    context = torch.tensor([[teacher.generation.start_id, *ids] for ids in targets])
    counted = torch.ones_like(context, dtype=torch.bool)
    counted[1, 3:] = False
    return source, mask, context, counted


def their_probabilities(pair: Pair, teacher: SubsetTeacher) -> np.ndarray:
    """The library's distribution [positions, its vocabulary] over the tokens that may be generated."""
    source, mask, context, counted = batch(teacher)
    with torch.no_grad():
        output = pair.model(
            input_ids=teacher.theirs[source], attention_mask=mask.long(), decoder_input_ids=teacher.theirs[context]
        )
    logits = output.logits[counted].double().numpy()
    logits[:, list(pair.ours.generation.suppressed_ids)] = -np.inf
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def test_tokens_have_new_ids_without_gaps_and_the_names_of_the_library(pair: Pair, small: SubsetTeacher) -> None:
    vocab = small.tokenizer.vocab
    assert sorted(vocab.values()) == list(range(small.vocab_size)) and small.vocab_size < pair.ours.vocab_size
    for token, index in vocab.items():
        named = pair.tokenizer.convert_tokens_to_ids(token)
        assert small.theirs[index] == named or token == f"<token {small.theirs[index]}>"
    rules, whole = small.generation, pair.ours.generation
    for name in ("start_id", "eos_id", "pad_id", "forced_bos_id", "forced_eos_id"):
        ours, theirs = getattr(rules, name), getattr(whole, name)
        assert theirs is None if ours is None else small.theirs[ours] == theirs
    assert set(mapped(small, list(rules.suppressed_ids))) == set(whole.suppressed_ids) & set(small.theirs.tolist())


def test_texts_of_the_corpus_have_the_tokens_of_the_library(pair: Pair, small: SubsetTeacher) -> None:
    for text in CORPUS:
        assert mapped(small, small.tokenizer.encode_source(text)) == pair.their_ids(text)


def test_other_texts_are_written_with_shorter_pieces(pair: Pair, small: SubsetTeacher) -> None:
    unknown = pair.tokenizer.unk_token_id
    for text in OTHER:
        ids = small.tokenizer.encode_source(text)
        whole = pair.ours.tokenizer
        assert small.tokenizer.decode_source(ids) == whole.decode_source(whole.encode_source(text))
        assert mapped(small, ids).count(unknown) == pair.their_ids(text).count(unknown)
        assert len(ids) > len(pair.their_ids(text))


def test_a_saved_tokenizer_is_the_same(small: SubsetTeacher, tmp_path: Path) -> None:
    small.tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.vocab == small.tokenizer.vocab and loaded.frame == small.tokenizer.frame
    for text in (*CORPUS, *OTHER):
        assert loaded.encode_source(text) == small.tokenizer.encode_source(text)


def test_probabilities_are_the_teachers_restricted_and_renormalised(pair: Pair, small: SubsetTeacher) -> None:
    theirs = their_probabilities(pair, small)
    allowed = small.generation.allowed_ids(small.vocab_size)
    restricted = theirs[:, small.theirs[allowed]]
    logits = small.logits(*batch(small), torch.tensor(allowed))
    expected = restricted / restricted.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(logits.double().softmax(dim=-1).numpy(), expected, atol=2e-5)
    np.testing.assert_allclose(small.logits(*batch(small))[:, allowed], logits)
    lost = small.lost_mass(*batch(small))
    np.testing.assert_allclose(lost.numpy(), 1 - restricted.sum(axis=1), atol=2e-5)
    assert lost.max() > 0.01


def test_beam_search_writes_what_the_library_writes_without_the_other_tokens(pair: Pair, small: SubsetTeacher) -> None:
    source, mask, *_ = batch(small)
    outside = sorted(set(range(pair.ours.vocab_size)) - set(small.theirs.tolist()))
    arguments = pair.ours.search_arguments(2)
    arguments["suppress_tokens"] = sorted({*outside, *(arguments["suppress_tokens"] or ())})
    expected = pair.model.generate(
        input_ids=small.theirs[source], attention_mask=mask.long(), **arguments, num_return_sequences=1
    )
    for (ours,), theirs in zip(small.generate(source, mask, 2), expected[:, 1:].tolist(), strict=True):
        assert mapped(small, ours.tokens) == theirs[: len(ours.tokens)]


def test_embeddings_are_rows_of_the_teachers(pair: Pair, small: SubsetTeacher) -> None:
    torch.testing.assert_close(small.embeddings(), pair.ours.embeddings()[small.theirs])


@pytest.mark.parametrize("family", ["marian", "bart"])
def test_as_a_model_it_has_the_same_logits(open_pair: Callable[[str], Pair], family: str) -> None:
    whole = open_pair(family).ours
    small = restrict_to(whole, occurring(whole.tokenizer))
    model = small.as_model()
    assert isinstance(model, Transformer) and model.config.vocab_size == small.vocab_size
    source, mask, context, counted = batch(small)
    logits = model.decode(model.encode(source, mask), context)[counted]
    torch.testing.assert_close(logits, small.logits(source, mask, context, counted), atol=1e-4, rtol=1e-4)
    assert len(greedy(model, small.generation, source, mask)) == 2
    whole_model = whole.as_model()
    assert whole_model is not None and whole_model.config.vocab_size == whole.vocab_size


def test_a_teacher_without_a_model_of_ours_stays_without(open_pair: Callable[[str], Pair]) -> None:
    whole = open_pair("t5").ours
    assert restrict_to(whole, occurring(whole.tokenizer)).as_model() is None


def test_a_tokenizer_that_is_no_part_of_the_teachers_is_refused(open_pair: Callable[[str], Pair]) -> None:
    marian, bart = open_pair("marian").ours, open_pair("bart").ours
    with pytest.raises(VocabularyError, match=r"no part of the teacher's .* are not the teacher's, first '<s>'"):
        SubsetTeacher(marian, bart.tokenizer)


def test_separate_vocabularies_are_refused(open_pair: Callable[[str], Pair]) -> None:
    class Separate(SentencePieceTokenizer):
        has_separate_vocabularies = True

    tokenizer = Separate.__new__(Separate)
    with pytest.raises(ModelError, match="separate vocabularies"):
        subset_tokenizer(tokenizer, ())


WORDS = ["lower", "lowest", "newer", "newest", "wider", "widest", "slow", "slower"]
FRAME = TextFrame(eos_id=1, pad_id=2, source_suffix_ids=(1,))


def sentencepiece_bpe() -> Tokenizer:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*WORDS, " ".join(WORDS)] * 3),
        model_writer=model,
        model_type="bpe",
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
        **{"unk_id": 0, "eos_id": 1, "pad_id": 2, "bos_id": -1},
    )
    return SentencePieceTokenizer({"sentencepiece.model": model.getvalue()})


def json_bpe(*, text_merges: bool) -> Tokenizer:
    fast = FastTokenizer(models.BPE(unk_token="<unk>"))
    fast.pre_tokenizer, fast.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    special = ["<unk>", "</s>", "<pad>"]
    fast.train_from_iterator(WORDS * 3, trainers.BpeTrainer(vocab_size=60, special_tokens=special, show_progress=False))
    described = json.loads(fast.to_str())
    if text_merges:  # as older files have them
        described["model"]["merges"] = [" ".join(pair) for pair in described["model"]["merges"]]
    return JsonTokenizer({"tokenizer.json": json.dumps(described).encode()}, FRAME)


@pytest.mark.parametrize(
    "tokenizer",
    [sentencepiece_bpe, lambda: json_bpe(text_merges=True), lambda: json_bpe(text_merges=False)],
    ids=["sentencepiece", "json", "json-text"],
)
def test_byte_pair_encoding_reaches_its_tokens_without_the_rest(tokenizer: Callable[[], Tokenizer]) -> None:
    """The parts of a token stay, although no text has them, and the tokens of other words go."""
    whole = tokenizer()
    names = {index: token for token, index in whole.vocab.items()}
    for word in WORDS:
        ids = whole.encode_target(word)
        small = subset_tokenizer(whole, ids)
        left = {index: token for token, index in small.vocab.items()}
        assert [left[index] for index in small.encode_target(word)] == [names[index] for index in ids]
        assert len(small.vocab) < len(whole.vocab)
        for other in WORDS:
            assert small.decode(small.encode_target(other)) == other


def test_bytes_and_single_characters_always_stay() -> None:
    pieces = ["<0x41>", "▁a", "b", "▁", "##c", "ab", "▁ab", "<0xZZ>"]
    assert fallback_ids({piece: index for index, piece in enumerate(pieces)}) == {0, 1, 2, 3, 4}
