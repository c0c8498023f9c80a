"""Writes a tokenizer as the files that ``MarianTokenizer`` reads: pieces of SentencePiece, ids from ``vocab.json``."""

from __future__ import annotations

import json

from compressor.errors import ModelError
from compressor.text.tokenizer import SentencePieceTokenizer, Tokenizer, VocabularyTokenizer

PAD_TOKEN = "<pad>"
"""Name of the last row, by which CTranslate2 knows that it is padding."""


def marian_tokenizer_files(
    tokenizer: Tokenizer,
    rows: int,
    max_source_tokens: int,
    source_language: str | None = None,
    target_language: str | None = None,
) -> dict[str, bytes]:
    """Returns the files of a tokenizer whose tokens have the same ids, by name; the last row is padding.

    Args:
        tokenizer: The project's tokenizer.
        rows: Rows of the embedding. One without a token is named ``<unused17>``, since every row needs a name.
        max_source_tokens: Longest source, at which the library cuts if it is asked to.
        source_language: ISO code.
        target_language: ISO code.

    Raises:
        ModelError: it is no SentencePiece tokenizer, source and target have separate vocabularies, or it adds other
            ids to a text than the end of sentence.
    """
    source, target = _sentencepiece_models(tokenizer)
    frame, tokens = tokenizer.frame, {index: token for token, index in tokenizer.vocab.items()}
    if frame.source_prefix_ids or frame.source_suffix_ids != (frame.eos_id,):
        raise ModelError("Marian's tokenizer adds the end of sentence to a source and nothing else; this one adds more")
    last = rows - 1
    names = {index: tokens.get(index, _unused(index)) for index in range(last)} | {last: PAD_TOKEN}
    if frame.pad_id != last:
        names[frame.pad_id] = _unused(frame.pad_id)  # the name is the last row's
    config = {
        "tokenizer_class": "MarianTokenizer",
        "source_lang": source_language,
        "target_lang": target_language,
        "model_max_length": max_source_tokens,
        "bos_token": names[frame.eos_id],  # never read; CTranslate2 wants a name where the model is BART's
        "eos_token": names[frame.eos_id],
        "unk_token": _unknown(tokenizer, names),
        "pad_token": PAD_TOKEN,
        "separate_vocabs": False,
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,  # "</s>" in a text is text
    }
    vocabulary = {name: index for index, name in names.items()}
    return {
        "source.spm": source,
        "target.spm": target,
        "vocab.json": json.dumps(vocabulary, ensure_ascii=False, separators=(",", ":")).encode(),
        "tokenizer_config.json": f"{json.dumps(config, indent=1)}\n".encode(),
    }


def _sentencepiece_models(tokenizer: Tokenizer) -> tuple[bytes, bytes]:
    """Returns the serialized models of source and target. Raises ModelError for another kind of tokenizer."""
    if tokenizer.has_separate_vocabularies:
        raise ModelError("source and target have separate vocabularies, and the model one embedding")
    if not isinstance(tokenizer, SentencePieceTokenizer | VocabularyTokenizer):
        raise ModelError("Marian's tokenizer is SentencePiece; this one is a tokenizer.json")
    if isinstance(tokenizer, SentencePieceTokenizer):
        model = tokenizer.pieces.serialized_model_proto()
        return model, model
    return tokenizer.source_pieces.serialized_model_proto(), tokenizer.target_pieces.serialized_model_proto()


def _unknown(tokenizer: Tokenizer, names: dict[int, str]) -> str:
    return names[tokenizer.pieces.unk_id()] if isinstance(tokenizer, SentencePieceTokenizer) else "<unk>"


def _unused(index: int) -> str:
    return f"<unused{index}>"
