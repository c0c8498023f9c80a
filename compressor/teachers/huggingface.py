"""Hugging Face encoder-decoder checkpoints as teachers, from a folder or a hub name; remote code is never run."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
from transformers import GenerationConfig as HFGenerationConfig
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging as hf_logging

from compressor.decoding.search import Hypothesis, beam_search
from compressor.errors import ModelError
from compressor.generation_config import until_eos
from compressor.models.base import Seq2SeqModel, count_parameters
from compressor.teacher_config import TeacherConfig
from compressor.teachers.base import Teacher, digest_of_weights
from compressor.teachers.conversion.marian import level_vocabularies
from compressor.teachers.conversion.registry import convert, is_faster_converted
from compressor.teachers.hf_generation import end_and_padding, max_positions, read_generation_config
from compressor.teachers.hf_tokenizer import convert_tokenizer, set_languages
from compressor.teachers.registry import register_teacher

NO_LIMIT = 1 << 30
"""A length that no source reaches."""

REASONS = {
    "Unrecognized configuration class": "it is not an encoder-decoder",
    "contains custom code": "it needs code of its own, which is never run here",
    "Weights only load failed": "its .bin file holds more than weights and could run code; convert it to safetensors",
}
"""Substring of a library's message to the reason that is shown instead: the originals are long, or advise to trust the
file."""


@register_teacher()
class HuggingFaceTeacher(Teacher):
    """Loads model, tokenizer and generation configuration.

    Raises:
        ModelError: the checkpoint is missing, damaged, incomplete or not supported.
        ConfigError: the recipe's languages or limits do not fit it.
    """

    def __init__(self, config: TeacherConfig) -> None:
        self.name = Path(config.path).name if Path(config.path).is_dir() else config.path
        self.model, tokenizer = _load(config)
        self.model.eval().requires_grad_(False)
        hf_generation, model_config = self.model.generation_config, self.model.config
        self._transformer = convert(self.model) if is_faster_converted(self.model) else None
        self.parameters = count_parameters(self.model)
        if getattr(tokenizer, "separate_vocabs", False):
            level_vocabularies(self.model)
        self.vocab_size = int(self.model.get_output_embeddings().weight.shape[0])
        self.max_source = max_positions(model_config, "encoder")
        self.max_context = max_positions(model_config, "decoder")
        language = set_languages(tokenizer, hf_generation, config)
        self.tokenizer = convert_tokenizer(
            tokenizer, *end_and_padding(hf_generation, tokenizer, model_config, config), config, self.vocab_size
        )
        frame = self.tokenizer.frame
        added = (frame.eos_id, frame.pad_id, *frame.source_prefix_ids, *frame.source_suffix_ids)
        highest = max(self.tokenizer.vocab_size - 1, language or 0, *added)
        if highest >= self.vocab_size:
            raise ModelError(
                f"teacher {config.path}: the tokenizer has ids up to {highest}, the model {self.vocab_size} logits; "
                "they do not belong together"
            )
        self.generation = read_generation_config(
            hf_generation, self.tokenizer, language, model_config, self.vocab_size, config
        )
        longest = min(self.generation.max_source_tokens, getattr(tokenizer, "model_max_length", None) or NO_LIMIT)
        self.generation = self.generation.model_copy(update={"max_source_tokens": int(longest)})
        self.model.generation_config = HFGenerationConfig()  # `generate` gets them as arguments: `search_arguments`

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
        scored = num_return > 1  # for scores, `generate` stores the logits of every step: gigabytes
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
        hypotheses = [Hypothesis(score, row) for score, row in zip(scores, tokens, strict=True)]
        return [hypotheses[i : i + num_return] for i in range(0, len(hypotheses), num_return)]

    def search_arguments(self, num_beams: int, max_new_tokens: int | None = None) -> dict[str, Any]:
        """The teacher's generation configuration as arguments of Hugging Face's ``model.generate``."""
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

    def digest(self) -> str:
        """See Teacher."""
        return digest_of_weights(self.model)

    def as_model(self) -> Seq2SeqModel | None:
        """See Teacher."""
        return self._transformer or convert(self.model)


def _load(config: TeacherConfig) -> tuple[Any, Any]:
    """Loads model and tokenizer with the library. Raises ModelError."""
    folder = Path(config.path)
    local = folder.is_absolute() or config.path.startswith(".") or config.path.count("/") > 1
    if local and not folder.is_dir():  # else it is taken for a hub name
        raise ModelError(f"teacher {config.path}: no such folder")
    source = {"revision": config.revision or "main", "trust_remote_code": False}
    with _explained(config, "model"):
        model, loading = AutoModelForSeq2SeqLM.from_pretrained(
            config.path, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **source
        )
    with _explained(config, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(config.path, **source)
    # The library fills weights that are missing or have a wrong shape with random numbers, and ignores a damaged
    # generation_config.json.
    if missing := sorted(loading["missing_keys"]):
        raise ModelError(f"teacher {config.path}: {len(missing)} weights are missing, first {missing[0]}")
    if mismatched := sorted(loading["mismatched_keys"]):
        name, stored, expected = mismatched[0]
        raise ModelError(
            f"teacher {config.path}: {len(mismatched)} weights do not fit config.json, first {name}: "
            f"{list(stored)} instead of {list(expected)}"
        )
    rules = folder / "generation_config.json"
    with _explained(config, rules.name):
        json.loads(rules.read_text(encoding="utf-8") if rules.is_file() else "{}")
    return model, tokenizer


@contextmanager
def _explained(config: TeacherConfig, what: str) -> Iterator[None]:
    """Turns every exception of the library into a ModelError of one line, and silences its progress bars and logs."""
    verbosity = hf_logging.get_verbosity()
    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # transformers raises many kinds
        message = " ".join(str(error).split())
        reason = next((reason for text, reason in REASONS.items() if text in message), message[:240])
        raise ModelError(f"teacher {config.path}: its {what} cannot be loaded ({reason})") from None
    finally:
        hf_logging.set_verbosity(verbosity)
