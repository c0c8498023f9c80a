"""Builds tiny random Hugging Face checkpoints with real tokenizers, laid out as the published ones of each family."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sentencepiece
import torch
import transformers
from tokenizers import ByteLevelBPETokenizer

POSITIONS = 40
SIZES = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "max_position_embeddings": POSITIONS,
    "dropout": 0.0,
}


def marian(folder: Path, texts: Sequence[Sequence[str]], languages: Sequence[str] = (">>en<<",)) -> None:
    """Two SentencePiece models, one vocabulary file; padding is the last row, starts every output, and is all zero."""
    pieces: dict[str, int] = {"</s>": 0, "<unk>": 1}
    for name, side in zip(("source.spm", "target.spm"), texts, strict=True):
        model = _sentencepiece(side, 45)
        (folder / name).write_bytes(model)
        for piece in _pieces(model):
            pieces.setdefault(piece, len(pieces))
    for language in languages:
        pieces.setdefault(language, len(pieces))
    pad = pieces.setdefault("<pad>", len(pieces))
    (folder / "vocab.json").write_text(json.dumps(pieces), encoding="utf-8")
    _write(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "MarianTokenizer", "source_lang": "de", "target_lang": "en"},
    )
    special = {"pad_token_id": pad, "eos_token_id": 0, "bos_token_id": 0, "decoder_start_token_id": pad}
    config = transformers.MarianConfig(vocab_size=len(pieces), scale_embedding=True, **special, **SIZES)
    rules = {
        "bad_words_ids": [[pad]],
        "forced_eos_token_id": 0,
        "num_beams": 4,
        "max_length": 24,
        "renormalize_logits": True,
    }
    _save(folder, transformers.MarianMTModel(config), special | rules, zero_row=pad, seed=24)


def marian_separate(folder: Path, texts: Sequence[Sequence[str]], sizes: Sequence[int] = (45, 30)) -> None:
    """A vocabulary and an embedding for each side; padding is the last row of each, decoding starts from the target's.

    Args:
        folder: Where the checkpoint goes.
        texts: Sources and targets.
        sizes: Most pieces of source and target.
    """
    vocabularies = []
    for name, side, size in zip(("source", "target"), texts, sizes, strict=True):
        model = _sentencepiece(side, size)
        (folder / f"{name}.spm").write_bytes(model)
        tokens = ["</s>", "<unk>", *_pieces(model), "<pad>"]
        vocabularies.append({token: index for index, token in enumerate(tokens)})
    for name, vocabulary in zip(("vocab.json", "target_vocab.json"), vocabularies, strict=True):
        _write(folder / name, vocabulary)
    languages = {"source_lang": "de", "target_lang": "en"}
    _write(
        folder / "tokenizer_config.json", {"tokenizer_class": "MarianTokenizer", "separate_vocabs": True, **languages}
    )
    pad = min(len(vocabulary) for vocabulary in vocabularies) - 1  # must be a row of both embeddings
    special = {"pad_token_id": pad, "eos_token_id": 0, "bos_token_id": 0, "decoder_start_token_id": pad}
    rows = {"vocab_size": len(vocabularies[0]), "decoder_vocab_size": len(vocabularies[1])}
    config = transformers.MarianConfig(share_encoder_decoder_embeddings=False, **rows, **special, **SIZES)
    rules = {"bad_words_ids": [[len(vocabularies[1]) - 1]], "forced_eos_token_id": 0, "num_beams": 4, "max_length": 24}
    _save(folder, transformers.MarianMTModel(config), special | rules, seed=24)


def bart(folder: Path, texts: Sequence[Sequence[str]], *, mask_row: bool = True) -> None:
    """Byte-level BPE; the end token starts every output, ``<s>`` is forced after it.

    Without ``mask_row`` the mask is the last token and has no row, as in facebook/bart-large-cnn.
    """
    trainer = ByteLevelBPETokenizer()
    trainer.train_from_iterator(
        [line for side in texts for line in side],
        vocab_size=320 if mask_row else 319,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", *(["<mask>"] if mask_row else [])],
        show_progress=False,
    )
    trainer.save_model(str(folder))
    if not mask_row:
        vocabulary = json.loads((folder / "vocab.json").read_text("utf-8"))
        _write(folder / "vocab.json", vocabulary | {"<mask>": len(vocabulary)})
    tokenizer = transformers.BartTokenizerFast.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    special = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}
    config = transformers.BartConfig(vocab_size=len(tokenizer) - (not mask_row), **special, **SIZES)
    rules = {
        "forced_bos_token_id": 0,
        "forced_eos_token_id": 2,
        "no_repeat_ngram_size": 3,
        "min_length": 8,
        "max_length": 20,
        "length_penalty": 2.0,
        "num_beams": 3,
        "early_stopping": True,
    }
    _save(folder, transformers.BartForConditionalGeneration(config), special | rules, zero_row=1, scale=0.5, eos_bias=5)


def t5(folder: Path, texts: Sequence[Sequence[str]]) -> None:
    """Relative positions, sentinel tokens, seven rows of the output layer without a token; padding starts an output."""
    model = _sentencepiece([line for side in texts for line in side], 60, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    (folder / "spiece.model").write_bytes(model)
    tokenizer = transformers.T5TokenizerFast.from_pretrained(folder, extra_ids=5)
    tokenizer.save_pretrained(folder)
    special = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    config = transformers.T5Config(
        vocab_size=len(tokenizer) + 7,
        d_model=16,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        dropout_rate=0.0,
        **special,
    )
    rules = {"max_length": 20, "min_length": 3, "num_beams": 2, "length_penalty": 0.6, "suppress_tokens": [5]}
    _save(folder, transformers.T5ForConditionalGeneration(config), special | rules, seed=14)


def mbart(folder: Path, texts: Sequence[Sequence[str]]) -> None:
    """Language ids end a source and start an output."""
    tokenizer = _multilingual(transformers.MBartTokenizerFast, folder, texts)
    special = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    config = transformers.MBartConfig(vocab_size=len(tokenizer), scale_embedding=True, **special, **SIZES)
    rules = {"max_length": 22, "num_beams": 5, "begin_suppress_tokens": [2, 7]}
    _save(
        folder,
        transformers.MBartForConditionalGeneration(config),
        special | rules,
        zero_row=1,
        seed=16,
        scale=1.5,
        eos_bias=12,
    )


def mbart50(folder: Path, texts: Sequence[Sequence[str]]) -> None:
    """Language ids begin a source, and follow the end token that starts an output."""
    tokenizer = _multilingual(transformers.MBart50TokenizerFast, folder, texts)
    special = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}
    config = transformers.MBartConfig(vocab_size=len(tokenizer), **special, **SIZES)
    rules = {"max_length": 22, "num_beams": 3, "forced_eos_token_id": 2}
    _save(folder, transformers.MBartForConditionalGeneration(config), special | rules, zero_row=1, eos_bias=3)


def m2m100(folder: Path, texts: Sequence[Sequence[str]]) -> None:
    """SentencePiece with a vocabulary file; language ids come after it and are in no file."""
    model = _sentencepiece([line for side in texts for line in side], 60)
    (folder / "sentencepiece.bpe.model").write_bytes(model)
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *_pieces(model)]
    _write(folder / "vocab.json", {token: index for index, token in enumerate(tokens)})
    _write(folder / "tokenizer_config.json", {"tokenizer_class": "M2M100Tokenizer"})
    special = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}
    config = transformers.M2M100Config(
        vocab_size=len(tokens) + 108, **special, **SIZES
    )  # 100 languages, 8 made-up words
    _save(folder, transformers.M2M100ForConditionalGeneration(config), special | {"max_length": 22}, zero_row=1)


BUILDERS: dict[str, Callable[[Path, Sequence[Sequence[str]]], None]] = {
    builder.__name__: builder for builder in (marian, bart, t5, mbart, mbart50, m2m100)
}


def _multilingual(kind: Any, folder: Path, texts: Sequence[Sequence[str]]) -> Any:
    model = _sentencepiece([line for side in texts for line in side], 60)
    (folder / "sentencepiece.bpe.model").write_bytes(model)
    tokenizer = kind.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _sentencepiece(lines: Sequence[str], vocab_size: int, **ids: int) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        minloglevel=2,
        num_threads=1,
        **ids,
    )
    return model.getvalue()


def _pieces(model: bytes) -> list[str]:
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    indices = range(processor.get_piece_size())
    return [processor.id_to_piece(i) for i in indices if not processor.is_control(i) and not processor.is_unknown(i)]


def _save(
    folder: Path,
    model: Any,
    rules: dict[str, Any],
    *,
    zero_row: int | None = None,
    seed: int = 1,
    scale: float = 0.7,
    eos_bias: float = 0.0,
) -> None:
    """Writes a model with its generation rules, and random weights whose outputs differ in tokens and in length."""
    generator, of_positions = (torch.Generator().manual_seed(seed) for _ in range(2))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_positions" in name:
                if parameter.requires_grad:  # learned; else a table of sines
                    parameter.normal_(0.0, 0.02, generator=of_positions)
            elif parameter.dim() > 1:
                parameter.normal_(0.0, scale, generator=generator)
        if zero_row is not None:
            model.get_input_embeddings().weight[zero_row] = 0.0
        if eos_bias:
            model.final_logits_bias[0, rules["eos_token_id"]] = eos_bias
    model.generation_config = transformers.GenerationConfig(**rules)
    model.save_pretrained(folder)


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
