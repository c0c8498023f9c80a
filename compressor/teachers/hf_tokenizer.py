"""A Hugging Face tokenizer as the project's torch-free one, with the same ids."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from compressor.config import TeacherConfig
from compressor.errors import ConfigError, ModelError
from compressor.text.tokenizer import (
    JsonTokenizer,
    SentencePieceTokenizer,
    TextFrame,
    Tokenizer,
    VocabularyTokenizer,
)

PROBES = ("a", "Hello, world! It's 3.14 -- or not?", "  Zwei  größere Häuser, »so« groß.", "ﬁne ½ № 日本語 😀")
"""Texts on which both tokenizers must agree: punctuation, spaces, accents, normalized and unknown characters."""


def set_languages(tokenizer: Any, given: Any, config: TeacherConfig) -> int | None:
    """Gives a multilingual tokenizer its source language.

    Args:
        tokenizer: Hugging Face's.
        given: the checkpoint's generation configuration, which may name a target language of its own.
        config: the recipe's section.

    Returns:
        The id of the target language, or None where the recipe names none.

    Raises:
        ConfigError: a language is unknown, missing, or the tokenizer has none.
    """
    if not hasattr(tokenizer, "src_lang"):
        for field in ("source_language", "target_language"):
            if getattr(config, field):
                raise ConfigError(
                    f"teacher.{field}: {config.path} has no language ids; remove it, or use source_prefix"
                )
        return None
    if not config.source_language:
        raise ConfigError(f"teacher.source_language: needed, {config.path} reads several languages")
    _language_id(tokenizer, config, "source_language")
    if not config.target_language and _names_no_language(given, tokenizer):
        raise ConfigError(f"teacher.target_language: needed, {config.path} writes several languages")
    tokenizer.src_lang = config.source_language
    return _language_id(tokenizer, config, "target_language") if config.target_language else None


def adapt(tokenizer: Any, eos_id: int, pad_id: int, config: TeacherConfig) -> Tokenizer:
    """The project's tokenizer with the same ids, the recipe's text prefix and the same surrounding tokens.

    Raises:
        ModelError: the kind is not supported; both were compared on ``PROBES``.
        ConfigError: the prefix begins with a language that is no token.
    """
    code = config.source_prefix.partition("<<")[0] + "<<"
    if config.source_prefix.startswith(">>") and tokenizer.convert_tokens_to_ids(code) == tokenizer.unk_token_id:
        raise ConfigError(f"teacher.source_prefix: {code} is not a token of {config.path}")
    before, after = _surroundings(tokenizer, config)
    frame = TextFrame(
        eos_id=eos_id,
        pad_id=pad_id,
        text_prefix=config.source_prefix,
        source_prefix_ids=before,
        source_suffix_ids=after,
        special_ids=tuple(sorted(set(tokenizer.all_special_ids))),
    )
    ours = _same_kind(tokenizer, frame)
    if ours is None or any(
        ours.encode_source(text) != list(tokenizer(config.source_prefix + text).input_ids) for text in PROBES
    ):
        raise ModelError(f"teacher {config.path}: {type(tokenizer).__name__} is not supported")
    return ours


def _surroundings(tokenizer: Any, config: TeacherConfig) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids that the tokenizer puts before and after a text's own."""
    plain = tokenizer("a", add_special_tokens=False).input_ids
    framed = tokenizer("a").input_ids
    start = next((i for i in range(len(framed)) if framed[i : i + len(plain)] == plain), None)
    if start is None:
        raise ModelError(f"teacher {config.path}: the tokenizer changes a text when it adds special tokens")
    return tuple(framed[:start]), tuple(framed[start + len(plain) :])


def _same_kind(tokenizer: Any, frame: TextFrame) -> Tokenizer | None:
    if getattr(tokenizer, "is_fast", False):
        return JsonTokenizer({"tokenizer.json": tokenizer.backend_tokenizer.to_str().encode()}, frame)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer.save_pretrained(folder)
        files = {file: (folder / file).read_bytes() for file in VocabularyTokenizer.names if (folder / file).exists()}
        models = [path for path in folder.iterdir() if path.suffix in (".model", ".spm")]
        if "vocab.json" in files and models:
            return VocabularyTokenizer(files, frame)
        if len(models) == 1:
            return SentencePieceTokenizer({"sentencepiece.model": models[0].read_bytes()}, frame)
    return None


def _names_no_language(given: Any, tokenizer: Any) -> bool:
    """Whether outputs begin with nothing but the usual special tokens."""
    usual = {None, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    return {given.decoder_start_token_id, given.forced_bos_token_id} <= usual


def _language_id(tokenizer: Any, config: TeacherConfig, field: str) -> int:
    """An ordinary token may be spelled like a language ("en"): only special tokens count."""
    code: str = getattr(config, field)
    known: dict[str, int] = dict(getattr(tokenizer, "lang_code_to_id", None) or {})
    if not known:
        known = {token: tokenizer.convert_tokens_to_ids(token) for token in tokenizer.all_special_tokens}
    index = known.get(code, tokenizer.unk_token_id)
    if index is None or index == tokenizer.unk_token_id:
        near = ", ".join(sorted(name for name in known if name[:2] == code[:2])[:3])
        raise ConfigError(
            f"teacher.{field}: {code} is not a language of {config.path}" + (f" (it has {near})" if near else "")
        )
    return int(index)
