"""Trains one SentencePiece model for both sides, for models that have no teacher's tokenizer to share."""

from __future__ import annotations

import io
import random
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

import sentencepiece

from compressor.data.examples import Example
from compressor.data.text_rows import TextRows
from compressor.errors import ConfigError, DataError
from compressor.files import write_atomic

MODEL_FILE = "sentencepiece.model"

# The ids of every tokenizer trained here; fixed, because models and bundles carry them as numbers.
UNK_ID, BOS_ID, EOS_ID, PAD_ID = 0, 1, 2, 3

# Results depend on how the work is divided, so the number of threads is part of the definition, not of the machine.
THREADS = 4
# With an alphabet all characters get a piece; with ideograms the rarest become unknown, or they would take every piece.
ALPHABET = 1000


SAMPLE_SEED = 1


def train_sentencepiece(
    sentences: Iterable[str],
    folder: Path,
    vocab_size: int,
    *,
    training_sentences: int | None = None,
    byte_fallback: bool = True,
) -> Path:
    """Trains a unigram model and writes ``sentencepiece.model``; the same input gives the same bytes.

    Args:
        sentences: Texts of both sides, training data only.
        folder: Where the model goes.
        vocab_size: Number of pieces; the four special ones and the 256 bytes of ``byte_fallback`` are among them.
        training_sentences: Number of texts to sample for training; None: all. Time grows with it: 5 s of one core for
            20,000, a minute for 200,000.
        byte_fallback: Whether characters without a piece are spelled as bytes; otherwise they become unknown.

    Returns:
        The path of the model.

    Raises:
        DataError: there is no text.
        ConfigError: the corpus does not yield so many pieces, or has more characters than that.
        StorageError: the folder cannot be written.
    """
    texts = _sample(sentences, training_sentences)
    if not texts:
        raise DataError("no text to train a tokenizer on: the corpus is empty")
    characters = set().union(*map(set, texts))
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="unigram",
            vocab_size=vocab_size,
            byte_fallback=byte_fallback,
            character_coverage=1.0 if len(characters) <= ALPHABET else 0.9995,
            unk_id=UNK_ID,
            bos_id=BOS_ID,
            eos_id=EOS_ID,
            pad_id=PAD_ID,
            num_threads=THREADS,
            max_sentence_length=1 << 16,  # bytes; longer texts would be left out silently
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ConfigError(_explain(str(error), vocab_size, len(characters))) from None
    path = folder / MODEL_FILE
    write_atomic(path, model.getvalue())
    return path


def _sample(sentences: Iterable[str], count: int | None) -> list[str]:
    """Returns the sentences that are not blank, or ``count`` of them; those not chosen are never all in memory."""
    with tempfile.TemporaryDirectory() as folder:
        rows = TextRows(Path(folder) / "sentences", (Example(text) for text in sentences if text.strip()))
        if count is None or len(rows) <= count:
            return [example.source for example in rows]
        return [rows[index].source for index in random.Random(SAMPLE_SEED).sample(range(len(rows)), count)]


def _explain(error: str, vocab_size: int, characters: int) -> str:
    """Returns what to change when SentencePiece refuses to train, from its error message."""
    if match := re.search(r"value <= (\d+)", error):
        return (
            f"tokenizer.vocab_size: {vocab_size} is too large for this corpus, which yields at most {match[1]} pieces: "
            "lower it, or add data"
        )
    if "required_chars" in error:
        return f"tokenizer.vocab_size: {vocab_size} is too small for the corpus's {characters} characters: raise it"
    return f"tokenizer.vocab_size: SentencePiece cannot train {vocab_size} pieces ({' '.join(error.split())})"
