"""Writes a ``tokenizer.json`` tokenizer as the files that ``AutoTokenizer`` reads, with the same ids."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer as FastTokenizer
from tokenizers.processors import TemplateProcessing

from compressor.errors import ModelError
from compressor.text.tokenizer import JsonTokenizer

BEGIN_TOKEN = "<s>"
"""Name of the token before a text, where the text frame has none."""


def json_tokenizer_files(tokenizer: JsonTokenizer, rows: int, max_source_tokens: int) -> dict[str, bytes]:
    """Returns the files of a tokenizer that gives texts the same ids, by name.

    Args:
        tokenizer: The project's tokenizer.
        rows: Rows of the embedding. One without a token is named ``<unused17>``, since every row needs a name.
        max_source_tokens: Longest source, at which the library cuts if it is asked to.

    Raises:
        ModelError: it has more tokens than the model has rows, or rows without a token cannot be named.
    """
    described = json.loads(tokenizer.files["tokenizer.json"])
    names = {index: token for token, index in tokenizer.vocab.items()}
    if max(names) >= rows:
        raise ModelError(f"the tokenizer has ids up to {max(names)}, the model {rows} rows")
    _name_rows(described["model"], names, rows)
    described |= {"truncation": None, "padding": None, "post_processor": None}
    fast = FastTokenizer.from_str(json.dumps(described, ensure_ascii=False))
    fast.post_processor = _frame(tokenizer, names)
    return {
        "tokenizer.json": fast.to_str(pretty=False).encode(),
        "tokenizer_config.json": f"{json.dumps(_config(tokenizer, names, max_source_tokens), indent=1)}\n".encode(),
    }


def _name_rows(model: dict[str, Any], names: dict[int, str], rows: int) -> None:
    """Adds tokens for the rows that have none to the model of a ``tokenizer.json``, and to ``names``."""
    missing = [index for index in range(rows) if index not in names]
    vocabulary = model["vocab"]
    if missing and not isinstance(vocabulary, dict):  # a piece of a unigram model would be read in texts
        raise ModelError(f"{len(missing)} rows of the model have no token, and this kind of tokenizer cannot name them")
    for index in missing:
        names[index] = f"<unused{index}>"
        vocabulary[names[index]] = index


def _frame(tokenizer: JsonTokenizer, names: dict[int, str]) -> Any:
    """Returns the post-processor that adds the ids of the text frame."""
    before, after = tokenizer.frame.source_prefix_ids, tokenizer.frame.source_suffix_ids
    around = {index: names[index] for index in (*before, *after)}
    template = [*(around[index] for index in before), "$A", *(around[index] for index in after)]
    return TemplateProcessing(single=template, special_tokens=[(name, index) for index, name in around.items()])


def _config(tokenizer: JsonTokenizer, names: dict[int, str], max_source_tokens: int) -> dict[str, Any]:
    """Returns the content of ``tokenizer_config.json``; CTranslate2 needs a name for what is unknown."""
    frame = tokenizer.frame
    begin = names[frame.source_prefix_ids[0]] if frame.source_prefix_ids else BEGIN_TOKEN
    unknown = names[tokenizer.unknown_id] if tokenizer.unknown_id is not None else "<unk>"
    roles = {"eos_token": names[frame.eos_id], "pad_token": names[frame.pad_id]}
    roles |= {role: name for role, name in (("bos_token", begin), ("unk_token", unknown)) if name in names.values()}
    rest = sorted({names[index] for index in frame.special_ids} - set(roles.values()))
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": max_source_tokens,
        **roles,
        "additional_special_tokens": rest,
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,  # "</s>" in a text is text
    }
