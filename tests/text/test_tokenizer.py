"""The torch-free tokenizers match SentencePiece and `tokenizers`."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import sentencepiece
import tokenizers

from compressor.errors import ModelError
from compressor.text.tokenizer import (
    FRAME_FILE,
    JsonTokenizer,
    SentencePieceTokenizer,
    TextFrame,
    Tokenizer,
    VocabularyTokenizer,
    load_tokenizer,
)

LINES = ["the dog sees the tree.", "der Hund sieht den Baum.", "a bird, two boys and 3 men!"] * 4
TEXTS = ["the dog sees the tree.", " two  boys\tand a Vogel ", "größer ☃ 3!", "a", ""]


def train(**options: int) -> bytes:
    model = io.BytesIO()
    ids = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": 3} | options
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES), model_writer=model, vocab_size=50, hard_vocab_limit=False, minloglevel=2, **ids
    )
    return model.getvalue()


@pytest.fixture(scope="module")
def pieces() -> bytes:
    """A SentencePiece model with all four special tokens."""
    return train()


@pytest.fixture(scope="module")
def reference(pieces: bytes) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=pieces)


@pytest.fixture(scope="module")
def marian_files(pieces: bytes, reference: sentencepiece.SentencePieceProcessor) -> dict[str, bytes]:
    """A vocabulary with ids other than SentencePiece's: pieces in reverse order, between EOS and padding."""
    tokens = [
        "</s>",
        "<unk>",
        ">>en<<",
        *(reference.id_to_piece(i) for i in reversed(range(4, len(reference)))),
        "<pad>",
    ]
    vocabulary = json.dumps({token: index for index, token in enumerate(tokens)})
    return {"vocab.json": vocabulary.encode(), "source.spm": pieces, "target.spm": pieces}


@pytest.fixture(scope="module")
def fast() -> tokenizers.Tokenizer:
    """Byte-level BPE with truncation and padding switched on, which the project must switch off."""
    trainer = tokenizers.ByteLevelBPETokenizer()
    trainer.train_from_iterator(LINES, vocab_size=300, special_tokens=["<s>", "<pad>", "</s>"], show_progress=False)
    trainer.enable_truncation(3)
    trainer.enable_padding(length=9)
    return tokenizers.Tokenizer.from_str(trainer.to_str())


@pytest.fixture(params=["sentencepiece", "vocabulary", "json"])
def kind(
    request: pytest.FixtureRequest, pieces: bytes, marian_files: dict[str, bytes], fast: tokenizers.Tokenizer
) -> Tokenizer:
    """Every kind in turn."""
    match request.param:
        case "sentencepiece":
            return SentencePieceTokenizer({"sentencepiece.model": pieces})
        case "vocabulary":
            return VocabularyTokenizer(marian_files)
    frame = TextFrame(
        eos_id=2, pad_id=1, text_prefix="sum: ", source_prefix_ids=(0,), source_suffix_ids=(2, 7), special_ids=(0, 1, 2)
    )
    return JsonTokenizer({"tokenizer.json": fast.to_str().encode()}, frame)


def test_sentencepiece_ids_match_the_model(pieces: bytes, reference: sentencepiece.SentencePieceProcessor) -> None:
    tokenizer = SentencePieceTokenizer({"sentencepiece.model": pieces})
    for text in TEXTS:
        ids = reference.encode(text)
        assert tokenizer.encode_source(text) == tokenizer.encode_target(text) == [*ids, 2]
        assert tokenizer.decode([1, *ids, 2, 3, 3]) == reference.decode(ids)
    assert (tokenizer.eos_id, tokenizer.pad_id, tokenizer.vocab_size) == (2, 3, len(reference))
    assert tokenizer.vocab == {reference.id_to_piece(i): i for i in range(len(reference))}


def test_vocabulary_ids_match_a_lookup_by_piece(
    marian_files: dict[str, bytes], reference: sentencepiece.SentencePieceProcessor
) -> None:
    tokenizer = VocabularyTokenizer(marian_files)
    vocabulary = json.loads(marian_files["vocab.json"])
    for text in TEXTS:
        expected = [vocabulary.get(piece, 1) for piece in reference.encode(text, out_type=str)]
        assert tokenizer.encode_source(text) == tokenizer.encode_target(text) == [*expected, 0]
    assert tokenizer.decode(tokenizer.encode_target("the dog sees the tree.")) == "the dog sees the tree."
    assert tokenizer.decode([tokenizer.pad_id, 1, *tokenizer.encode_target("a bird"), 999]) == "a bird"
    assert (tokenizer.eos_id, tokenizer.pad_id) == (0, len(vocabulary) - 1)


@pytest.mark.parametrize(
    ("text", "first"), [(">>en<< the dog", [2]), (">>the<< dog", []), (">>en the dog", []), ("the >>en<< dog", [])]
)
def test_known_target_language_code_is_one_token(
    marian_files: dict[str, bytes], reference: sentencepiece.SentencePieceProcessor, text: str, first: list[int]
) -> None:
    """An unknown code is ordinary text (a quotation such as »>>Hallo<<«)."""
    vocabulary = json.loads(marian_files["vocab.json"])
    rest = text.removeprefix(">>en<<") if first else text
    expected = [*first, *(vocabulary.get(piece, 1) for piece in reference.encode(rest, out_type=str)), 0]
    assert VocabularyTokenizer(marian_files).encode_source(text) == expected


def test_separate_source_and_target_vocabularies(marian_files: dict[str, bytes]) -> None:
    tokens = [*json.loads(marian_files["vocab.json"]), "more"]
    other = json.dumps({token: index for index, token in enumerate(reversed(tokens))}).encode()
    tokenizer = VocabularyTokenizer(marian_files | {"target_vocab.json": other})
    assert tokenizer.vocab == json.loads(other) and tokenizer.vocab_size == len(tokens)
    assert tokenizer.encode_source("a")[:-1] == VocabularyTokenizer(marian_files).encode_source("a")[:-1]
    assert tokenizer.decode(tokenizer.encode_target("the dog")) == "the dog"


def test_a_vocabulary_with_the_ids_of_its_model_is_left_out(
    pieces: bytes, reference: sentencepiece.SentencePieceProcessor, marian_files: dict[str, bytes], tmp_path: Path
) -> None:
    size = reference.get_piece_size()
    own = {reference.id_to_piece(i): i for i in range(size)} | {"<pad>": size}  # Marian's last row is padding
    spm = {"source.spm": pieces, "target.spm": pieces}
    tokenizer = VocabularyTokenizer({"vocab.json": json.dumps(own).encode()} | spm)
    compact = tokenizer.compact()
    compact.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compress_tokenizer.json", "sentencepiece.model"]
    for text in ("the cat sat", "a </s> b", "日本"):
        ids = tokenizer.encode_source(text)
        assert compact.encode_source(text) == ids and compact.encode_target(text) == tokenizer.encode_target(text)
        assert compact.decode(ids) == tokenizer.decode(ids)
    other = own | {reference.id_to_piece(size - 1): size - 2, reference.id_to_piece(size - 2): size - 1}
    language = own | {">>fra<<": size + 1, ">>deu<<": size + 2}
    for vocabulary in (other, language):
        tokenizer = VocabularyTokenizer({"vocab.json": json.dumps(vocabulary).encode()} | spm)
        assert tokenizer.compact() is tokenizer
    separate = VocabularyTokenizer(marian_files | {"target_vocab.json": json.dumps(own).encode()})
    assert separate.compact() is separate


def test_json_ids_match_tokenizers_inside_the_frame(fast: tokenizers.Tokenizer) -> None:
    frame = TextFrame(
        eos_id=2, pad_id=1, text_prefix="sum: ", source_prefix_ids=(0,), source_suffix_ids=(2, 7), special_ids=(0, 1, 2)
    )
    tokenizer = JsonTokenizer({"tokenizer.json": fast.to_str().encode()}, frame)
    plain = tokenizers.Tokenizer.from_str(fast.to_str())
    plain.no_truncation()
    plain.no_padding()
    for text in TEXTS:
        assert tokenizer.encode_source(text) == [0, *plain.encode("sum: " + text).ids, 2, 7]
        assert tokenizer.encode_target(text) == [*plain.encode(text).ids, 2]
        assert tokenizer.decode([0, *plain.encode(text).ids, 2, 1, 1, 4000]) == text.strip()
    assert tokenizer.vocab == plain.get_vocab() and tokenizer.vocab_size == plain.get_vocab_size()


def test_saved_tokenizer_loads_unchanged(kind: Tokenizer, tmp_path: Path) -> None:
    kind.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert type(again) is type(kind) and again.frame == kind.frame and again.vocab == kind.vocab
    assert [again.encode_source(text) for text in TEXTS] == [kind.encode_source(text) for text in TEXTS]
    assert [again.encode_target(text) for text in TEXTS] == [kind.encode_target(text) for text in TEXTS]
    assert {path.name for path in tmp_path.iterdir()} == {*kind.files, FRAME_FILE}


def test_given_frame_replaces_the_stored_one(kind: Tokenizer, tmp_path: Path) -> None:
    kind.save(tmp_path)
    frame = TextFrame(eos_id=5, pad_id=6, text_prefix="x: ")
    other = load_tokenizer(tmp_path, frame)
    assert other.frame == frame and other.encode_target("a")[-1] == 5


def test_a_source_is_decoded_without_its_frame(kind: Tokenizer) -> None:
    text = "der hund sieht das haus"
    assert kind.decode_source(kind.encode_source(text)) == kind.decode(kind.encode_target(text))


def test_decoding_special_tokens_gives_an_empty_text(kind: Tokenizer) -> None:
    assert kind.decode([]) == kind.decode([kind.pad_id, kind.eos_id, 10**6]) == ""


CONTROL = ("</s>", "<pad>", "<s>", "<unk>", ">>en<<")


@pytest.mark.parametrize("text", ["{}", "the {} dog", "{}the dog{}", "the{}{}dog", "the ＜/s＞ dog"])
def test_written_control_tokens_are_text(kind: Tokenizer, text: str) -> None:
    framing = {kind.eos_id, kind.pad_id, *kind.frame.special_ids}
    if isinstance(kind, VocabularyTokenizer):
        framing.remove(kind.vocab["<unk>"])  # of characters that it does not know
        framing.add(kind.vocab[">>en<<"])
    for token in CONTROL:
        if not (token == ">>en<<" and text.startswith("{}")):  # a language at the start is one
            written = text.format(token, token)
            frame = len(kind.frame.source_prefix_ids), len(kind.frame.source_suffix_ids)
            source = kind.encode_source(written)
            for ids in (source[frame[0] : len(source) - frame[1]], kind.encode_target(written)[:-1]):
                assert ids and framing.isdisjoint(ids)


def test_a_control_token_of_unknown_characters_is_unknown() -> None:
    """SentencePiece returns unknown characters that follow each other as one piece, as they are written."""
    model = io.BytesIO()
    ids = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": 3}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["αβγ δε αβ", "γδ εα βγ"] * 4), model_writer=model, vocab_size=14,
        hard_vocab_limit=False, minloglevel=2, **ids,
    )  # fmt: skip
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    tokens = ["</s>", "<unk>", ">>en<<", *(pieces.id_to_piece(i) for i in range(4, len(pieces))), "<pad>"]
    files = {"vocab.json": json.dumps({token: index for index, token in enumerate(tokens)}).encode()}
    tokenizer = VocabularyTokenizer(files | {"source.spm": model.getvalue(), "target.spm": model.getvalue()})
    for token in ("</s>", "<pad>", ">>en<<"):
        ids_of = tokenizer.encode_source(f"αβγ{token}δε")
        assert tokenizer.vocab[token] not in ids_of[:-1] and ids_of.count(tokenizer.vocab["<unk>"]) == 1


def test_a_unigram_model_reads_its_special_tokens_as_text() -> None:
    names = ["<s>", "</s>", "<unk>", "▁", "<", "/", "s", ">", "a", "u", "n", "k"]
    model = tokenizers.models.Unigram([(name, -float(i > 2)) for i, name in enumerate(names)], unk_id=2)
    plain = tokenizers.Tokenizer(model)
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    plain.add_special_tokens(["<s>", "</s>", "<unk>"])
    frame = TextFrame(eos_id=1, pad_id=0, source_suffix_ids=(1,), special_ids=(0, 1, 2))
    tokenizer = JsonTokenizer({"tokenizer.json": plain.to_str().encode()}, frame)
    for text, read in (("a </s> a", "a < /s> a"), ("</s></s>", "< /s>< /s>"), ("a☃", "a☃"), ("a a", "a a")):
        assert tokenizer.encode_source(text) == [*plain.encode(read).ids, 1]


BROKEN = [
    ({}, "no tokenizer here"),
    ({"sentencepiece.model": b""}, "sentencepiece.model: not a SentencePiece model"),
    ({"sentencepiece.model": b"not a model"}, "sentencepiece.model: not a SentencePiece model"),
    ({"tokenizer.json": b"{}"}, "tokenizer.json: not a tokenizer"),
    ({"tokenizer.json": b"\xff\xfe"}, "tokenizer.json: not a tokenizer"),
    ({"vocab.json": b"{}"}, "source.spm is missing"),
    ({"vocab.json": b"{}", "source.spm": None}, "target.spm is missing"),
    ({"vocab.json": b"[1, 2]", "source.spm": None, "target.spm": None}, "vocab.json: not a vocabulary"),
    ({"vocab.json": b'{"a": "b"}', "source.spm": None, "target.spm": None}, "vocab.json: not a vocabulary"),
    ({"vocab.json": b'{"a": -1}', "source.spm": None, "target.spm": None}, "vocab.json: not a vocabulary"),
    ({"vocab.json": b'{"a": 0}', "source.spm": None, "target.spm": None}, "vocab.json lacks </s>, <pad> or <unk>"),
    ({"sentencepiece.model": None, FRAME_FILE: b"{"}, f"{FRAME_FILE}: damaged"),
    ({"sentencepiece.model": None, FRAME_FILE: b'{"eos_id": 1, "pad_id": 2, "else": 3}'}, f"{FRAME_FILE}: damaged"),
]


@pytest.mark.parametrize(("files", "message"), BROKEN)
def test_damaged_files_are_refused_in_one_line(
    files: dict[str, bytes | None], message: str, pieces: bytes, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(pieces if content is None else content)
    with pytest.raises(ModelError) as error:
        load_tokenizer(tmp_path)
    assert message in str(error.value) and str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_json_tokenizer_without_a_frame_is_refused(fast: tokenizers.Tokenizer, tmp_path: Path) -> None:
    fast.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelError, match=r"is missing beside tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_model_without_padding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sentencepiece.model").write_bytes(train(pad_id=-1))
    with pytest.raises(ModelError, match="no token for end of sentence or padding"):
        load_tokenizer(tmp_path)


def test_decode_computes_the_vocabulary_size_once(fast: tokenizers.Tokenizer) -> None:
    tokenizer = JsonTokenizer({"tokenizer.json": fast.to_str().encode()}, TextFrame(eos_id=2, pad_id=1))
    calls = []

    class Counting(dict[str, int]):
        def values(self):  # type: ignore[no-untyped-def]
            calls.append(1)
            return super().values()

    tokenizer.__dict__["vocab"] = Counting(tokenizer.vocab)
    tokenizer.decode([5] * 1000)
    assert len(calls) <= 1


def test_import_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = sys.modules['transformers'] = None; import compressor.text.tokenizer"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)
