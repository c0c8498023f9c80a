"""Any Hugging Face encoder-decoder as a teacher, from a folder or a hub name, without remote code."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig as HFGenerationConfig
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging as hf_logging

from compressor.config import TeacherConfig
from compressor.errors import ConfigError, ModelError
from compressor.generation import GenerationConfig
from compressor.models.base import count_parameters
from compressor.models.search import Hypothesis, until_eos
from compressor.teachers.base import Teacher
from compressor.tokenizer import JsonTokenizer, SentencePieceTokenizer, TextFrame, Tokenizer, VocabularyTokenizer

LONGEST = 512
"""Tokens of an output or a source where the checkpoint states no limit."""


class HuggingFaceTeacher(Teacher):
    """Loads model, tokenizer and generation rules. Raises ModelError if they cannot be used."""

    def __init__(self, config: TeacherConfig) -> None:
        self.name = Path(config.path).name if Path(config.path).is_dir() else config.path
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            hf_logging.disable_progress_bar()
            try:
                self.model: Any = AutoModelForSeq2SeqLM.from_pretrained(
                    config.path, revision=config.revision or "main", dtype=torch.float32, trust_remote_code=False
                )
                tokenizer = AutoTokenizer.from_pretrained(
                    config.path,
                    revision=config.revision or "main",
                    trust_remote_code=False,
                    **_language_arguments(config),
                )
            except Exception as error:  # transformers raises many kinds; a user needs one line
                reason = " ".join(str(error).split())[:240]
                raise ModelError(f"teacher {config.path}: cannot be loaded ({reason})") from None
        self.model.eval().requires_grad_(False)
        self.vocab_size = int(self.model.get_output_embeddings().weight.shape[0])
        self.parameters = count_parameters(self.model)
        self.tokenizer = _tokenizer(tokenizer, config)
        if self.tokenizer.vocab_size > self.vocab_size:
            raise ModelError(
                f"teacher {config.path}: {self.tokenizer.vocab_size} tokens for {self.vocab_size} logits; "
                "tokenizer and model do not belong together"
            )
        self.generation = _generation(self.model, tokenizer, self.tokenizer, self.vocab_size, config)
        self.model.generation_config = HFGenerationConfig()  # the rules go to `generate` as arguments, in one place

    def to(self, device: Any) -> HuggingFaceTeacher:
        """See Teacher."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def logits(self, source: Tensor, source_mask: Tensor, context: Tensor, kept: Tensor) -> Tensor:
        """See Teacher."""
        attention_mask = source_mask.long()
        hidden = self.model.get_encoder()(input_ids=source, attention_mask=attention_mask).last_hidden_state
        output = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
            attention_mask=attention_mask,
            decoder_input_ids=context,
            use_cache=False,
        )
        logits: Tensor = output.logits[kept]
        return logits

    @torch.no_grad()
    def generate(self, source: Tensor, source_mask: Tensor, num_beams: int, num_return: int = 1) -> list[list[Hypothesis]]:
        """See Teacher; a greedy output has no score (nan)."""
        output = self.model.generate(
            input_ids=source,
            attention_mask=source_mask.long(),
            **self.search_arguments(num_beams),
            num_return_sequences=num_return,
            return_dict_in_generate=True,
            output_scores=num_beams > 1,
        )
        eos, pad = self.generation.eos_id, self.generation.pad_id
        tokens = [until_eos(row, eos, pad) for row in output.sequences[:, 1:].tolist()]
        scores = output.sequences_scores.tolist() if num_beams > 1 else [float("nan")] * len(tokens)
        found = [Hypothesis(score, row) for score, row in zip(scores, tokens, strict=True)]
        return [found[i : i + num_return] for i in range(0, len(found), num_return)]

    def search_arguments(self, num_beams: int, max_new_tokens: int | None = None) -> dict[str, Any]:
        """The project's generation rules as arguments of Hugging Face's ``model.generate``."""
        rules = self.generation
        return {
            "decoder_start_token_id": rules.start_id,
            "eos_token_id": rules.eos_id,
            "pad_token_id": rules.pad_id,
            "suppress_tokens": list(rules.suppressed_ids) or None,
            "begin_suppress_tokens": list(rules.begin_suppressed_ids) or None,
            "forced_bos_token_id": rules.forced_bos_id,
            "forced_eos_token_id": rules.forced_eos_id,
            "max_new_tokens": max_new_tokens or rules.max_new_tokens,
            "min_new_tokens": rules.min_new_tokens or None,
            "no_repeat_ngram_size": rules.no_repeat_ngram_size,
            "length_penalty": rules.length_penalty if num_beams > 1 else None,
            "num_beams": num_beams,
            "do_sample": False,
        }

    def embeddings(self) -> Tensor:
        """See Teacher."""
        decoder = self.model.get_decoder()
        table: Tensor = decoder.get_input_embeddings().weight.detach()
        scaled = getattr(self.model.config, "scale_embedding", False)
        return table * (table.shape[1] ** 0.5 if scaled else 1.0)


def _language_arguments(config: TeacherConfig) -> dict[str, str]:
    languages = {"src_lang": config.source_language, "tgt_lang": config.target_language}
    return {name: code for name, code in languages.items() if code}


def _tokenizer(tokenizer: Any, config: TeacherConfig) -> Tokenizer:
    """The project's torch-free tokenizer with the same ids, text prefix and surrounding tokens."""
    plain = tokenizer("a", add_special_tokens=False).input_ids
    framed = tokenizer("a").input_ids
    start = next((i for i in range(len(framed)) if framed[i : i + len(plain)] == plain), None)
    if start is None:
        raise ModelError(f"teacher {config.path}: the tokenizer changes a text when it adds special tokens")
    frame = TextFrame(
        eos_id=tokenizer.eos_token_id,
        pad_id=tokenizer.pad_token_id,
        text_prefix=config.source_prefix,
        source_prefix_ids=tuple(framed[:start]),
        source_suffix_ids=tuple(framed[start + len(plain) :]),
        special_ids=tuple(sorted(set(tokenizer.all_special_ids))),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer.save_pretrained(folder)
        if getattr(tokenizer, "is_fast", False):
            return JsonTokenizer({"tokenizer.json": (folder / "tokenizer.json").read_bytes()}, frame)
        files = {file: (folder / file).read_bytes() for file in VocabularyTokenizer.names if (folder / file).exists()}
        if "vocab.json" in files:
            return VocabularyTokenizer(files, frame)
        models = [path for path in folder.iterdir() if path.suffix in (".model", ".spm")]
        if len(models) == 1 and not (folder / "vocab.json").exists():
            return SentencePieceTokenizer({"sentencepiece.model": models[0].read_bytes()}, frame)
    raise ModelError(f"teacher {config.path}: {type(tokenizer).__name__} is not supported")


def _generation(model: Any, tokenizer: Any, ours: Tokenizer, rows: int, config: TeacherConfig) -> GenerationConfig:
    """Start, end, suppressed and forced tokens and limits, from the checkpoint's generation configuration."""
    given = model.generation_config
    start = _first(given.decoder_start_token_id, model.config.decoder_start_token_id, given.bos_token_id)
    eos = _first(given.eos_token_id, model.config.eos_token_id, ours.eos_id)
    if isinstance(eos, list):
        eos = eos[0]
    if start is None:
        raise ModelError(f"teacher {config.path}: no decoder_start_token_id in its configuration")
    bad_words = given.bad_words_ids or []
    if any(len(word) != 1 for word in bad_words):
        raise ModelError(f"teacher {config.path}: bad_words_ids of several tokens are not supported; remove them")
    missing = set(range(rows)) - set(ours.vocab.values())
    suppressed = missing | {word[0] for word in bad_words} | set(given.suppress_tokens or [])
    forced_bos = given.forced_bos_token_id
    if config.target_language:
        language = _language_id(tokenizer, config)
        if type(tokenizer).__name__.startswith("MBartTokenizer"):  # mBART-25 starts with the language itself
            start, forced_bos = language, None
        else:
            forced_bos = language
    limit = _limit(given, model.config)
    return GenerationConfig(
        start_id=start,
        eos_id=eos,
        pad_id=ours.pad_id,
        suppressed_ids=tuple(sorted(suppressed)),
        begin_suppressed_ids=tuple(given.begin_suppress_tokens or ()),
        forced_bos_id=forced_bos,
        forced_eos_id=given.forced_eos_token_id,
        max_new_tokens=config.max_new_tokens or limit,
        min_new_tokens=max(given.min_new_tokens or 0, (given.min_length or 0) - 1, 0),
        no_repeat_ngram_size=given.no_repeat_ngram_size or 0,
        length_penalty=_first(config.length_penalty, given.length_penalty, 1.0),
        num_beams=given.num_beams or 1,
        max_source_tokens=getattr(model.config, "max_position_embeddings", None) or LONGEST,
    )


def _language_id(tokenizer: Any, config: TeacherConfig) -> int:
    codes = getattr(tokenizer, "lang_code_to_id", None) or {}
    index = codes.get(config.target_language, tokenizer.convert_tokens_to_ids(config.target_language))
    if index is None or index == tokenizer.unk_token_id:
        raise ConfigError(f"teacher.target_language: {config.target_language} is not a language of {config.path}")
    return int(index)


def _limit(given: Any, config: Any) -> int:
    """Most new tokens: `generate` counts the start token in ``max_length``, the position table bounds both."""
    longest = min(getattr(config, "max_position_embeddings", None) or LONGEST, LONGEST)
    if given.max_new_tokens:
        return min(int(given.max_new_tokens), longest)
    stated = given.max_length if given.max_length and given.max_length != 20 else longest  # 20: the library's default
    return int(min(stated - 1, longest))


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
