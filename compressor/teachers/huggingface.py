"""Any Hugging Face encoder-decoder as a teacher, from a folder or a hub name, without remote code."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BartForConditionalGeneration,
    MarianMTModel,
)
from transformers import GenerationConfig as HFGenerationConfig
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging as hf_logging

from compressor.config import TeacherConfig
from compressor.decoding.search import Hypothesis, beam_search
from compressor.errors import ModelError
from compressor.generation_config import until_eos
from compressor.models.base import count_parameters
from compressor.models.transformer import Transformer
from compressor.teachers.base import Teacher
from compressor.teachers.conversion.bart import from_bart
from compressor.teachers.conversion.marian import from_marian
from compressor.teachers.hf_generation import end_and_padding, positions, read_rules
from compressor.teachers.hf_tokenizer import adapt, set_languages

REASONS = {
    "Unrecognized configuration class": "it is not an encoder-decoder",
    "contains custom code": "it needs code of its own, which is never run here",
    "Weights only load failed": "its .bin file holds more than weights and could run code; convert it to safetensors",
}
"""Messages of the libraries that are long, or advise to trust the file, and what is said instead."""


class HuggingFaceTeacher(Teacher):
    """Loads model, tokenizer and generation rules.

    Raises:
        ModelError: the checkpoint is missing, damaged, incomplete or not supported.
        ConfigError: the recipe's languages or limits do not fit it.
    """

    def __init__(self, config: TeacherConfig) -> None:
        self.name = Path(config.path).name if Path(config.path).is_dir() else config.path
        self.model, tokenizer = _load(config)
        self.model.eval().requires_grad_(False)
        given, described = self.model.generation_config, self.model.config
        # Our own modules look at a batch of contexts in five sixths of the time; measured for Marian.
        self._transformer = _native(self.model) if isinstance(self.model, MarianMTModel) else None
        self.vocab_size = int(self.model.get_output_embeddings().weight.shape[0])
        self.parameters = count_parameters(self.model)
        self.max_source, self.max_context = positions(described, "encoder"), positions(described, "decoder")
        language = set_languages(tokenizer, given, config)
        self.tokenizer = adapt(tokenizer, *end_and_padding(given, tokenizer, described, config), config)
        highest = max(self.tokenizer.vocab_size - 1, language or 0)
        if highest >= self.vocab_size:
            raise ModelError(
                f"teacher {config.path}: the tokenizer has ids up to {highest}, the model {self.vocab_size} logits; "
                "they do not belong together"
            )
        self.generation = read_rules(given, self.tokenizer, language, described, self.vocab_size, config)
        self.model.generation_config = HFGenerationConfig()  # the rules go to `generate` as arguments, in one place

    def to(self, device: Any) -> HuggingFaceTeacher:
        """See Teacher."""
        self.model.to(device)
        if self._transformer is not None:
            self._transformer.to(device)
        return self

    @torch.no_grad()
    def logits(
        self, source: Tensor, source_mask: Tensor, context: Tensor, loss_mask: Tensor, tokens: Tensor | None = None
    ) -> Tensor:
        """See Teacher."""
        if self._transformer is not None:
            features = self._transformer(source, source_mask, context)
            return self._transformer.project(features[loss_mask], tokens)
        attention_mask = source_mask.long()
        hidden = self.model.get_encoder()(input_ids=source, attention_mask=attention_mask).last_hidden_state
        output = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
            attention_mask=attention_mask,
            decoder_input_ids=context,
            use_cache=False,
        )
        logits: Tensor = output.logits[loss_mask]
        return logits if tokens is None else logits[:, tokens]

    @torch.no_grad()
    def generate(
        self, source: Tensor, source_mask: Tensor, num_beams: int, num_return: int = 1
    ) -> list[list[Hypothesis]]:
        """See Teacher."""
        if self._transformer is not None and num_beams > 1:
            return beam_search(
                self._transformer,
                self.generation,
                source,
                source_mask,
                num_beams=num_beams,
                num_return=num_return,
            )
        scored = num_return > 1  # `generate` keeps the logits of every step to return scores: gigabytes
        output = self.model.generate(
            input_ids=source,
            attention_mask=source_mask.long(),
            **self.search_arguments(num_beams),
            num_return_sequences=num_return,
            return_dict_in_generate=True,
            output_scores=scored,
        )
        eos, pad = self.generation.eos_id, self.generation.pad_id
        tokens = [until_eos(row, eos, pad) for row in output.sequences[:, 1:].tolist()]
        scores = output.sequences_scores.tolist() if scored else [float("nan")] * len(tokens)
        found = [Hypothesis(score, row) for score, row in zip(scores, tokens, strict=True)]
        return [found[i : i + num_return] for i in range(0, len(found), num_return)]

    def search_arguments(self, num_beams: int, max_new_tokens: int | None = None) -> dict[str, Any]:
        """The teacher's generation rules as arguments of Hugging Face's ``model.generate``."""
        rules = self.generation
        arguments: dict[str, Any] = {
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
            "num_beams": num_beams,
            "do_sample": False,
        }
        if num_beams > 1:
            arguments |= {"length_penalty": rules.length_penalty, "early_stopping": rules.early_stopping}
            arguments["renormalize_logits"] = rules.renormalize_logits
        return arguments

    def embeddings(self) -> Tensor:
        """See Teacher."""
        decoder = self.model.get_decoder()
        table: Tensor = decoder.get_input_embeddings().weight.detach()
        scaled = getattr(self.model.config, "scale_embedding", False)
        return table * (table.shape[1] ** 0.5 if scaled else 1.0)

    def transformer(self) -> Transformer | None:
        """See Teacher."""
        return self._transformer or _native(self.model)


def _native(model: Any) -> Transformer | None:
    """A model of our own with the same weights; None where ours does not cover the layout."""
    try:
        if isinstance(model, MarianMTModel):
            return from_marian(model).requires_grad_(False)
        if isinstance(model, BartForConditionalGeneration):
            return from_bart(model).requires_grad_(False)
    except ModelError:
        pass
    return None


def _load(config: TeacherConfig) -> tuple[Any, Any]:
    """Model and tokenizer as the library gives them. Raises ModelError."""
    folder = Path(config.path)
    local = folder.is_absolute() or config.path.startswith(".") or config.path.count("/") > 1
    if local and not folder.is_dir():  # else it is taken for a hub name
        raise ModelError(f"teacher {config.path}: no such folder")
    origin = {"revision": config.revision or "main", "trust_remote_code": False}
    with _explained(config, "model"):
        model, found = AutoModelForSeq2SeqLM.from_pretrained(
            config.path, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **origin
        )
    with _explained(config, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(config.path, **origin)
    # The library fills what is missing or misshapen with random numbers, and ignores a damaged rules file.
    if missing := sorted(found["missing_keys"]):
        raise ModelError(f"teacher {config.path}: {len(missing)} weights are missing, first {missing[0]}")
    if misshapen := sorted(found["mismatched_keys"]):
        name, stored, expected = misshapen[0]
        raise ModelError(
            f"teacher {config.path}: {len(misshapen)} weights do not fit config.json, first {name}: "
            f"{list(stored)} instead of {list(expected)}"
        )
    rules = folder / "generation_config.json"
    with _explained(config, rules.name):
        json.loads(rules.read_text(encoding="utf-8") if rules.is_file() else "{}")
    return model, tokenizer


@contextmanager
def _explained(config: TeacherConfig, what: str) -> Iterator[None]:
    """Turns whatever the library raises into one line; its own bars, warnings and logs are silenced."""
    verbosity = hf_logging.get_verbosity()
    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # transformers raises many kinds
        said = " ".join(str(error).split())
        reason = next((reason for sign, reason in REASONS.items() if sign in said), said[:240])
        raise ModelError(f"teacher {config.path}: its {what} cannot be loaded ({reason})") from None
    finally:
        hf_logging.set_verbosity(verbosity)
