"""Conversion of Hugging Face generation configurations."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

from compressor.errors import ConfigError, ModelError
from compressor.generation_config import GenerationConfig
from compressor.teacher_config import TeacherConfig
from compressor.teachers.hf_generation import end_and_padding, read_generation_config
from compressor.teachers.huggingface import HuggingFaceTeacher
from tests.teachers.conftest import Pair

CONFIG = TeacherConfig(path="folder")
TOKENIZER: Any = SimpleNamespace(eos_id=2, pad_id=1, vocab={"<s>": 0, "<pad>": 1, "</s>": 2, "a": 3, "b": 4, "c": 6})
ROWS = 9  # 5, 7 and 8 have no token


def rules(
    language: int | None = None, table: int | None = 64, config: TeacherConfig = CONFIG, **given: Any
) -> GenerationConfig:
    stated = transformers.GenerationConfig(**({"decoder_start_token_id": 0} | given))
    model_config = SimpleNamespace(max_position_embeddings=table)
    return read_generation_config(stated, TOKENIZER, language, model_config, ROWS, config)


TABLE = [
    ({}, {"start_id": 0, "eos_id": 2, "pad_id": 1, "suppressed_ids": (5, 7, 8), "begin_suppressed_ids": ()}),
    ({}, {"min_new_tokens": 0, "no_repeat_ngram_size": 0, "length_penalty": 1.0, "num_beams": 1, "max_new_tokens": 64}),
    ({"decoder_start_token_id": 2}, {"start_id": 2}),
    ({"decoder_start_token_id": None, "bos_token_id": 4}, {"start_id": 4}),
    ({"bad_words_ids": [[3], [1]]}, {"suppressed_ids": (1, 3, 5, 7, 8)}),
    ({"bad_words_ids": [[2], [3]]}, {"suppressed_ids": (3, 5, 7, 8)}),  # `generate` never forbids the end this way
    ({"suppress_tokens": [4, 3], "bad_words_ids": [[4]]}, {"suppressed_ids": (3, 4, 5, 7, 8)}),
    ({"begin_suppress_tokens": [2, 4]}, {"begin_suppressed_ids": (2, 4)}),
    ({"forced_bos_token_id": 0, "forced_eos_token_id": 2}, {"forced_bos_id": 0, "forced_eos_id": 2}),
    ({"forced_bos_token_id": 7}, {"forced_bos_id": 7, "suppressed_ids": (5, 8)}),
    ({"min_length": 5}, {"min_new_tokens": 4}),
    ({"min_length": 1}, {"min_new_tokens": 0}),
    ({"min_new_tokens": 3, "min_length": 9}, {"min_new_tokens": 3}),
    ({"no_repeat_ngram_size": 3, "length_penalty": 2.0, "num_beams": 4},
     {"no_repeat_ngram_size": 3, "length_penalty": 2.0, "num_beams": 4}),
    ({"max_length": 30}, {"max_new_tokens": 29}),
    ({"max_length": 142, "max_new_tokens": 12}, {"max_new_tokens": 12}),
    ({"max_length": 512}, {"max_new_tokens": 64}),
    ({"do_sample": True, "temperature": 0.7, "repetition_penalty": 1.0, "encoder_no_repeat_ngram_size": 0}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), TABLE, ids=str)
def test_options_are_converted(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert rules(**given).model_dump(include=set(expected)) == expected


def test_recipe_overrides_length_penalty_and_limit() -> None:
    config = TeacherConfig(path="folder", length_penalty=0.3, max_new_tokens=50)
    generation = rules(config=config, max_length=30, length_penalty=2.0)
    assert (generation.length_penalty, generation.max_new_tokens) == (0.3, 50)


@pytest.mark.parametrize(
    ("table", "given", "expected"),
    [(None, {}, 512), (None, {"max_length": 1001}, 1000), (1024, {"max_length": 1001}, 1000), (1024, {}, 512)],
)
def test_default_limit_is_512_or_the_position_table(table: int | None, given: dict[str, int], expected: int) -> None:
    assert rules(table=table, **given).max_new_tokens == expected


def test_target_language_replaces_or_follows_the_start_token() -> None:
    assert rules(language=4, decoder_start_token_id=None).model_dump(include={"start_id", "forced_bos_id"}) == {
        "start_id": 4,
        "forced_bos_id": None,
    }
    generation = rules(language=4, decoder_start_token_id=2, forced_bos_token_id=3)
    assert (generation.start_id, generation.forced_bos_id) == (2, 4)


def test_encoder_and_decoder_limits_are_read_separately() -> None:
    config = SimpleNamespace(max_encoder_position_embeddings=4096, max_decoder_position_embeddings=16)
    generation = read_generation_config(
        transformers.GenerationConfig(bos_token_id=0), TOKENIZER, None, config, ROWS, CONFIG
    )
    assert (generation.max_source_tokens, generation.max_new_tokens) == (4096, 16)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"bad_words_ids": [[3], [3, 4]]},
            "teacher folder: .* bad_words_ids of several tokens, which is not supported",
        ),
        ({"repetition_penalty": 1.2}, "has repetition_penalty, which .* generation_config.json"),
        (
            {"encoder_no_repeat_ngram_size": 3, "sequence_bias": [[[3], 1.0]]},
            "encoder_no_repeat_ngram_size, sequence_bias",
        ),
        ({"decoder_start_token_id": None}, "no decoder_start_token_id"),
    ],
)
def test_unsupported_options_are_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message) as error:
        rules(**given)
    assert "\n" not in str(error.value)


def test_limit_beyond_the_position_table_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"teacher\.max_new_tokens: 65 is more than the teacher's 64"):
        rules(config=TeacherConfig(path="folder", max_new_tokens=65))


@pytest.mark.parametrize(
    ("given", "tokenizer_eos", "expected"),
    [
        ({"eos_token_id": 2, "pad_token_id": 9}, 2, (2, 1)),  # the tokenizer pads
        ({"eos_token_id": [2]}, None, (2, 1)),
        ({}, 2, (2, 1)),
        ({"eos_token_id": [2, 3]}, 2, "several eos_token_id"),
        ({"eos_token_id": 0}, 2, "end of sentence is 0 in the configuration and 2 in the tokenizer"),
        ({}, None, "no eos_token_id or pad_token_id"),
    ],
)
def test_eos_and_padding_must_agree_with_the_tokenizer(
    given: dict[str, Any], tokenizer_eos: int | None, expected: tuple[int, int] | str
) -> None:
    tokenizer = SimpleNamespace(eos_token_id=tokenizer_eos, pad_token_id=1)
    arguments = (transformers.GenerationConfig(**given), tokenizer, SimpleNamespace(), CONFIG)
    if isinstance(expected, str):
        with pytest.raises(ModelError, match=expected):
            end_and_padding(*arguments)
    else:
        assert end_and_padding(*arguments) == expected


FAMILIES = {
    "marian": {"forced_eos_id": 0, "eos_id": 0, "num_beams": 4, "max_new_tokens": 23, "forced_bos_id": None},
    "bart": {"start_id": 2, "eos_id": 2, "pad_id": 1, "forced_bos_id": 0, "forced_eos_id": 2, "min_new_tokens": 7,
             "no_repeat_ngram_size": 3, "length_penalty": 2.0, "max_new_tokens": 19, "max_source_tokens": 40},
    "t5": {"start_id": 0, "eos_id": 1, "min_new_tokens": 2, "length_penalty": 0.6, "max_source_tokens": 512},
    "mbart": {"eos_id": 2, "forced_bos_id": None, "begin_suppressed_ids": (2, 7), "num_beams": 5},
    "mbart50": {"start_id": 2, "forced_eos_id": 2},
    "m2m100": {"start_id": 2, "max_new_tokens": 21},
}  # fmt: skip


def test_generation_config_of_each_family(pair: Pair) -> None:
    generation, family = pair.ours.generation, pair.model.config.model_type
    expected = FAMILIES[
        "mbart50" if family == "mbart" and generation.start_id == 2 else family.replace("m2m_100", "m2m100")
    ]
    assert generation.model_dump(include=set(expected)) == expected
    ids = pair.tokenizer.get_vocab()
    if family == "marian":
        assert generation.start_id == ids["<pad>"] and generation.suppressed_ids == (ids["<pad>"],)
    if family == "t5":
        assert generation.suppressed_ids == (5, *range(len(pair.tokenizer), len(pair.tokenizer) + 7))
    if family == "mbart":
        assert ids["en_XX"] == (generation.start_id if expected is FAMILIES["mbart"] else generation.forced_bos_id)
    if family == "m2m_100":
        assert generation.forced_bos_id == pair.tokenizer.get_lang_id("en") not in generation.suppressed_ids
        assert pair.tokenizer.get_lang_id("de") in generation.suppressed_ids


def test_begin_suppressed_tokens_and_minimum_length_are_obeyed(open_pair: Callable[[str], Pair]) -> None:
    """mBART's ``begin_suppress_tokens`` and BART's ``min_length``, on outputs that would violate them."""
    pair = open_pair("mbart")
    for row in pair.ours.generate(*pair.batch(), num_beams=1):
        assert row[0].tokens[0] not in (2, 7)
    pair = open_pair("bart")
    free = pair.model.generate(input_ids=pair.batch()[0], min_length=0, num_beams=1, forced_bos_token_id=0)
    assert min(row.index(2, 1) for row in free.tolist() if 2 in row[1:]) < 8
    for row in pair.ours.generate(*pair.batch(), num_beams=1):
        assert len(row[0].tokens) >= 8


def test_search_arguments_carry_the_generation_config(open_pair: Callable[[str], Pair]) -> None:
    arguments = open_pair("bart").ours.search_arguments(num_beams=3)
    assert arguments["early_stopping"] is True and arguments["length_penalty"] == 2.0
    greedy = open_pair("bart").ours.search_arguments(num_beams=1, max_new_tokens=5)
    assert greedy["max_new_tokens"] == 5 and not {"early_stopping", "length_penalty"} & set(greedy)
    assert open_pair("marian").ours.search_arguments(num_beams=2)["renormalize_logits"] is True


@pytest.mark.parametrize("target", ["de_DE", "en_XX"])
def test_target_language_sets_the_start_token(open_pair: Callable[[str], Pair], target: str) -> None:
    pair = open_pair("mbart")
    teacher = HuggingFaceTeacher(pair.config.model_copy(update={"target_language": target}))
    assert teacher.generation.start_id == pair.tokenizer.convert_tokens_to_ids(target)
    assert torch.equal(teacher.embeddings(), pair.ours.embeddings())


@pytest.mark.parametrize(
    ("family", "fields", "message"),
    [
        ("mbart", {"target_language": "en_XX"}, "teacher.source_language: needed, .* reads several languages"),
        ("mbart", {"source_language": "de"}, r"source_language: de is not a language of .* \(it has de_DE\)"),
        ("mbart", {"source_language": "de_DE", "target_language": "xx_XX"}, "target_language: xx_XX is not a language"),
        ("mbart", {"source_language": "de_DE", "target_language": "▁d"}, "target_language: ▁d is not a language"),
        ("mbart50", {"source_language": "en_X", "target_language": "de_DE"}, "en_X is not .*en_XX"),
        ("m2m100", {"source_language": "qq", "target_language": "en"}, "source_language: qq is not a language"),
        ("marian", {"source_language": "de"}, "source_language: .* has no language ids; remove it"),
        ("t5", {"target_language": "en"}, "target_language: .* has no language ids; remove it"),
        ("marian", {"source_prefix": ">>fr<< "}, "source_prefix: >>fr<< is not a token"),
    ],
)
def test_wrong_language_is_refused(
    open_pair: Callable[[str], Pair], family: str, fields: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        HuggingFaceTeacher(TeacherConfig(path=open_pair(family).config.path, **fields))
    assert re.fullmatch(r"[^\n]+", str(error.value))


def test_target_language_is_required_if_the_checkpoint_names_none(open_pair: Callable[[str], Pair]) -> None:
    with pytest.raises(ConfigError, match=r"teacher\.target_language: needed"):
        HuggingFaceTeacher(TeacherConfig(path=open_pair("mbart").config.path, source_language="de_DE"))
