"""Converts a Hugging Face generation configuration to the project's ``GenerationConfig``.

Sampling options are ignored, since a teacher always searches. Options without a counterpart are refused by name.
"""

from __future__ import annotations

from typing import Any

from transformers import GenerationConfig as HFGenerationConfig

from compressor.errors import ConfigError, ModelError
from compressor.generation_config import GenerationConfig
from compressor.teacher_config import TeacherConfig
from compressor.text.tokenizer import Tokenizer

DEFAULT_LIMIT = 512
"""Maximum tokens of an output or a source if the checkpoint states no limit."""

DEFAULT_MAX_LENGTHS = (None, HFGenerationConfig().max_length)
"""Values of ``max_length`` that are library defaults (20 before version 5, None since), not the checkpoint's choice."""

UNSUPPORTED = {
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "guidance_scale": 1.0,
    "num_beam_groups": 1,
    "encoder_no_repeat_ngram_size": 0,
    "exponential_decay_length_penalty": None,
    "sequence_bias": None,
    "stop_strings": None,
    "force_words_ids": None,
    "constraints": None,
}
"""Unsupported options, each with the value at which it has no effect; other values are refused."""


def read_generation_config(
    hf_generation: Any, tokenizer: Tokenizer, language: int | None, model_config: Any, rows: int, config: TeacherConfig
) -> GenerationConfig:
    """Converts a checkpoint's generation configuration.

    Args:
        hf_generation: The checkpoint's generation configuration.
        tokenizer: The project's tokenizer, converted from the checkpoint's.
        language: Id of the target language, for multilingual checkpoints.
        model_config: The checkpoint's model configuration.
        rows: Rows of the output layer; rows without a token are suppressed.
        config: The recipe's ``teacher`` section, which overrides limits and penalties.

    Raises:
        ModelError: an option is not supported, or no start token is stated.
        ConfigError: the recipe asks for more tokens than the checkpoint has positions.
    """
    _refuse_unsupported(hf_generation, config)
    start, forced_bos = _start(hf_generation, model_config, tokenizer.eos_id, language, config)
    forced = {token for token in (forced_bos, hf_generation.forced_eos_token_id) if token is not None}
    bad_words = {word[0] for word in hf_generation.bad_words_ids or []} - {tokenizer.eos_id}  # as `generate` does
    empty_rows = set(range(rows)) - set(tokenizer.vocab.values())
    return GenerationConfig(
        start_id=start,
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
        suppressed_ids=tuple(sorted((empty_rows | bad_words | set(hf_generation.suppress_tokens or ())) - forced)),
        begin_suppressed_ids=tuple(hf_generation.begin_suppress_tokens or ()),
        forced_bos_id=forced_bos,
        forced_eos_id=hf_generation.forced_eos_token_id,
        max_new_tokens=_max_new_tokens(hf_generation, max_positions(model_config, "decoder"), config),
        min_new_tokens=_min_new_tokens(hf_generation),
        no_repeat_ngram_size=first(config.no_repeat_ngram_size, hf_generation.no_repeat_ngram_size, 0),
        length_penalty=first(config.length_penalty, hf_generation.length_penalty, 1.0),
        early_stopping=first(hf_generation.early_stopping, False),
        renormalize_logits=bool(hf_generation.renormalize_logits),
        num_beams=hf_generation.num_beams or 1,
        max_source_tokens=max_positions(model_config, "encoder") or DEFAULT_LIMIT,
    )


def end_and_padding(hf_generation: Any, tokenizer: Any, model_config: Any, config: TeacherConfig) -> tuple[int, int]:
    """Ids of end of sentence and padding. Raises ModelError if the checkpoint and the tokenizer disagree."""
    ends = hf_generation.eos_token_id if isinstance(hf_generation.eos_token_id, list) else [hf_generation.eos_token_id]
    if len(ends) > 1:
        raise ModelError(f"teacher {config.path}: several eos_token_id ({ends}) are not supported; keep one")
    stated = first(ends[0], getattr(model_config, "eos_token_id", None))
    eos = first(stated, tokenizer.eos_token_id)
    pad = first(_padding(tokenizer), hf_generation.pad_token_id, getattr(model_config, "pad_token_id", None))
    if eos is None or pad is None:
        raise ModelError(f"teacher {config.path}: no eos_token_id or pad_token_id in its configuration")
    if tokenizer.eos_token_id not in (None, eos):
        raise ModelError(
            f"teacher {config.path}: end of sentence is {eos} in the configuration and {tokenizer.eos_token_id} in the "
            "tokenizer; they do not belong together"
        )
    return int(eos), int(pad)


def _padding(tokenizer: Any) -> int | None:
    """The id of padding; with separate vocabularies the larger one, which is no ordinary token of either."""
    source: int | None = tokenizer.pad_token_id
    if source is None or not getattr(tokenizer, "separate_vocabs", False):
        return source
    return max(source, int(tokenizer.target_encoder[tokenizer.pad_token]))


def max_positions(model_config: Any, side: str) -> int | None:
    """Rows of the position table of ``side`` ("encoder" or "decoder"); None if it has no such table (T5)."""
    names = (f"max_{side}_position_embeddings", "max_position_embeddings")
    rows: int | None = first(*(getattr(model_config, name, None) for name in names))
    return rows


def first(*values: Any) -> Any:
    """The first value that is not None."""
    return next((value for value in values if value is not None), None)


def _refuse_unsupported(hf_generation: Any, config: TeacherConfig) -> None:
    """Raises ModelError if the configuration uses an unsupported option."""
    names = [
        name
        for name, neutral in UNSUPPORTED.items()
        if getattr(hf_generation, name, None) not in (None, neutral, [], {})
    ]
    if any(len(word) != 1 for word in hf_generation.bad_words_ids or []):
        names.append("bad_words_ids of several tokens")
    if names:
        raise ModelError(
            f"teacher {config.path}: its generation configuration has {', '.join(names)}, which is not supported; "
            "remove it from generation_config.json"
        )


def _start(
    hf_generation: Any, model_config: Any, eos: int, language: int | None, config: TeacherConfig
) -> tuple[int, int | None]:
    """Start token and forced first token; a target language replaces the start token, or follows it if that is EOS."""
    stated = first(hf_generation.decoder_start_token_id, getattr(model_config, "decoder_start_token_id", None))
    if language is not None:
        return (stated, language) if stated == eos else (language, None)
    start = first(stated, hf_generation.bos_token_id)
    if start is None:
        raise ModelError(f"teacher {config.path}: no decoder_start_token_id in its configuration")
    return start, hf_generation.forced_bos_token_id


def _min_new_tokens(hf_generation: Any) -> int:
    """Minimum output length: ``min_new_tokens``, else ``min_length``, which counts the start token."""
    return int(first(hf_generation.min_new_tokens, max((hf_generation.min_length or 0) - 1, 0)))


def _max_new_tokens(hf_generation: Any, table: int | None, config: TeacherConfig) -> int:
    """Maximum output length: ``max_new_tokens``, else ``max_length``, which counts the start token; at most ``table``.

    Args:
        hf_generation: The checkpoint's generation configuration.
        table: Positions of the decoder; None: no limit.
        config: The recipe's section, which overrides the limit. Raises ConfigError if it is above ``table``.
    """
    if config.max_new_tokens and table and config.max_new_tokens > table:
        raise ConfigError(f"teacher.max_new_tokens: {config.max_new_tokens} is more than the teacher's {table}")
    stated = hf_generation.max_new_tokens
    if not stated and hf_generation.max_length not in DEFAULT_MAX_LENGTHS:
        stated = hf_generation.max_length - 1
    return int(config.max_new_tokens or min(stated or DEFAULT_LIMIT, table or stated or DEFAULT_LIMIT))
