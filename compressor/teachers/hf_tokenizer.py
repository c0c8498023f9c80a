"""Converts a Hugging Face tokenizer to the project's torch-free tokenizer with the same ids."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from compressor.errors import ConfigError, ModelError
from compressor.teacher_config import TeacherConfig
from compressor.text.marian_languages import MAX_SHOWN, language_tokens
from compressor.text.tokenizer import (
    JsonTokenizer,
    SentencePieceTokenizer,
    TextFrame,
    Tokenizer,
    VocabularyTokenizer,
)

PROBES = ("a", "Hello, world! It's 3.14 -- or not?", "  Zwei  größere Häuser, »so« groß.", "ﬁne ½ № 日本語 😀")
"""Texts that both tokenizers must encode alike: punctuation, spaces, accents, normalized and unknown characters."""


def set_languages(tokenizer: Any, hf_generation: Any, config: TeacherConfig) -> int | None:
    """Sets the source language of a multilingual tokenizer and returns the id of the target language.

    Args:
        tokenizer: The Hugging Face tokenizer.
        hf_generation: The checkpoint's generation configuration, which may name a target language itself.
        config: The recipe's ``teacher`` section.

    Returns:
        The id of the target language; None if the recipe names none.

    Raises:
        ConfigError: a language is unknown or missing, or the tokenizer has no languages.
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
    if not config.target_language and _lacks_language(hf_generation, tokenizer):
        raise ConfigError(f"teacher.target_language: needed, {config.path} writes several languages")
    tokenizer.src_lang = config.source_language
    return _language_id(tokenizer, config, "target_language") if config.target_language else None


def convert_tokenizer(
    tokenizer: Any, eos_id: int, pad_id: int, config: TeacherConfig, rows: int | None = None
) -> Tokenizer:
    """Converts a tokenizer, with its special tokens around a text and the recipe's text prefix.

    Special tokens beyond the model's rows are left out: `<mask>` of facebook/bart-large-cnn has no embedding. Where
    such a token is written in a text, it is text.

    Args:
        tokenizer: The Hugging Face tokenizer.
        eos_id: End of sentence.
        pad_id: Padding.
        config: The recipe's ``teacher`` section.
        rows: Rows of the model's embedding; None: as many as there are tokens.

    Raises:
        ModelError: the kind of tokenizer is not supported: ids differ on ``PROBES``.
        ConfigError: the prefix begins with a language code that is not a token.
    """
    code = config.source_prefix.partition("<<")[0] + "<<"
    if config.source_prefix.startswith(">>") and tokenizer.convert_tokens_to_ids(code) == tokenizer.unk_token_id:
        known = ", ".join(language_tokens(tokenizer.get_vocab())[:MAX_SHOWN])
        message = f"teacher.source_prefix: {code} is not a token of {config.path}"
        raise ConfigError(message + (f", which has {known}" if known else ""))
    before, after = _special_ids_around(tokenizer, config)
    frame = TextFrame(
        eos_id=eos_id,
        pad_id=pad_id,
        text_prefix=config.source_prefix,
        source_prefix_ids=before,
        source_suffix_ids=after,
        special_ids=tuple(sorted(index for index in _special_ids(tokenizer) if rows is None or index < rows)),
    )
    ours = _convert_by_kind(tokenizer, frame, rows)
    if ours is None or not _encodes_alike(ours, tokenizer, config.source_prefix):
        raise ModelError(f"teacher {config.path}: {type(tokenizer).__name__} is not supported")
    return ours


def _special_ids(tokenizer: Any) -> set[int]:
    """Ids that are not decoded: those of the target's vocabulary, where it has one of its own."""
    if not getattr(tokenizer, "separate_vocabs", False):
        return set(tokenizer.all_special_ids)
    return {
        tokenizer.target_encoder[token] for token in tokenizer.all_special_tokens if token in tokenizer.target_encoder
    }


def _encodes_alike(ours: Tokenizer, theirs: Any, prefix: str) -> bool:
    """Whether both tokenizers give ``PROBES`` the same ids."""
    language = ours.example.removesuffix("1")  # which a multilingual Marian model needs
    texts = [language + text for text in PROBES]
    return all(ours.encode_source(text) == list(theirs(prefix + text, verbose=False).input_ids) for text in texts)


def _special_ids_around(tokenizer: Any, config: TeacherConfig) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids that the tokenizer adds before and after the ids of a text."""
    plain = tokenizer("a", add_special_tokens=False).input_ids
    framed = tokenizer("a").input_ids
    start = next((i for i in range(len(framed)) if framed[i : i + len(plain)] == plain), None)
    if start is None:
        raise ModelError(f"teacher {config.path}: the tokenizer changes a text when it adds special tokens")
    return tuple(framed[:start]), tuple(framed[start + len(plain) :])


def _convert_by_kind(tokenizer: Any, frame: TextFrame, rows: int | None) -> Tokenizer | None:
    """The project's tokenizer made from the same files; None if their kind is unknown."""
    if getattr(tokenizer, "is_fast", False):
        described = _without_special_tokens_beyond(tokenizer.backend_tokenizer.to_str(), rows)
        return JsonTokenizer({"tokenizer.json": described.encode()}, frame)
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


def _without_special_tokens_beyond(described: str, rows: int | None) -> str:
    """Returns a ``tokenizer.json`` without the special tokens whose ids the model has no rows for."""
    values = json.loads(described)
    beyond = {
        token["content"]
        for token in values.get("added_tokens") or ()
        if rows is not None and token["special"] and token["id"] >= rows
    }
    if not beyond:
        return described
    values["added_tokens"] = [token for token in values["added_tokens"] if token["content"] not in beyond]
    vocabulary = values["model"].get("vocab")
    if isinstance(vocabulary, dict):  # not Unigram's, a list by id, which has no added tokens
        values["model"]["vocab"] = {token: index for token, index in vocabulary.items() if token not in beyond}
    return json.dumps(values, ensure_ascii=False)


def _lacks_language(hf_generation: Any, tokenizer: Any) -> bool:
    """Whether the checkpoint names no target language: outputs begin with the usual special tokens."""
    usual = {None, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    return {hf_generation.decoder_start_token_id, hf_generation.forced_bos_token_id} <= usual


def _language_id(tokenizer: Any, config: TeacherConfig, field: str) -> int:
    """The id of the language in ``config.<field>``. Raises ConfigError if it is unknown.

    Only special tokens count, since an ordinary token may be spelled like a language ("en").
    """
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
