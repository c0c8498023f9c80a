"""Training of a SentencePiece model."""

from __future__ import annotations

from pathlib import Path

import pytest
import sentencepiece

from compressor.config import load_recipe
from compressor.data.corpus import load_corpus
from compressor.data.synthetic.corpus import generate
from compressor.data.tokenizer_training import train_sentencepiece
from compressor.errors import ConfigError, DataError

TEXTS = [side for example in generate("translation", "train", 300) for side in example if side]


def test_model_has_the_fixed_ids_and_keeps_text(tmp_path: Path) -> None:
    path = train_sentencepiece(iter(TEXTS), tmp_path / "tokenizer", 300, byte_fallback=False)
    assert path == tmp_path / "tokenizer" / "sentencepiece.model"
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    assert [model.id_to_piece(i) for i in range(4)] == ["<unk>", "<s>", "</s>", "<pad>"]
    assert (model.unk_id(), model.bos_id(), model.eos_id(), model.pad_id()) == (0, 1, 2, 3)
    assert model.get_piece_size() == 300
    assert all(model.decode(model.encode(text)) == text for text in TEXTS)


def test_byte_fallback_loses_no_character(tmp_path: Path) -> None:
    path = train_sentencepiece(TEXTS, tmp_path, 500)
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    for text in ("Der Hund 🐕 rennt.", "100 € für Łódź", "日本語"):
        assert model.decode(model.encode(text)) == text
        assert model.unk_id() not in model.encode(text)


def test_a_sample_of_the_sentences_is_enough(tmp_path: Path) -> None:
    """Sampling is by a fixed seed; more sentences than there are change nothing."""
    options = {"vocab_size": 150, "byte_fallback": False}
    models = [
        train_sentencepiece(TEXTS, tmp_path / str(number), training_sentences=count, **options).read_bytes()
        for number, count in enumerate((200, 200, len(TEXTS), None))
    ]
    assert models[0] == models[1] != models[2] == models[3]


def test_training_is_deterministic(tmp_path: Path) -> None:
    one, two = (train_sentencepiece(TEXTS, tmp_path / name, 200, byte_fallback=False).read_bytes() for name in "ab")
    assert one == two


@pytest.mark.parametrize(
    ("texts", "size", "message"),
    [
        (["ab ba"] * 9, 500, r"vocab_size: 500 is too large for this corpus, which yields at most \d+ pieces"),
        (TEXTS, 20, r"vocab_size: 20 is too small for the corpus's \d+ characters"),
    ],
)
def test_unreachable_vocabulary_sizes_are_refused(tmp_path: Path, texts: list[str], size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train_sentencepiece(texts, tmp_path, size, byte_fallback=False)
    assert not list(tmp_path.iterdir())


def test_training_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no text"):
        train_sentencepiece(["", " "], tmp_path, 100)


@pytest.mark.parametrize("task", ["translation", "summarization"])
def test_shipped_demo_recipes_ask_for_no_more_pieces_than_their_corpus_yields(task: str, tmp_path: Path) -> None:
    recipe = load_recipe(Path(__file__).parents[2] / "configs" / f"demo-{task}.yaml")
    examples = load_corpus(recipe.data, "train").examples
    texts = (side for example in examples for side in example if side)
    train_sentencepiece(texts, tmp_path, recipe.tokenizer.vocab_size, byte_fallback=recipe.tokenizer.byte_fallback)
