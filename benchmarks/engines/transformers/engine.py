"""Hugging Face `generate`, from text to text, on a checkpoint or on a run in Marian's layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, MarianTokenizer
from transformers.utils import logging as messages

from benchmarks.engines.base import EngineOutput, EngineSpec, encode_sources, finish_reasons
from benchmarks.engines.torch.device import torch_device
from compressor.decoding.search import pad_sources
from compressor.errors import ModelError
from compressor.models.base import count_parameters
from compressor.models.weights import Run, load_run
from compressor.run_folder import is_run
from compressor.teachers.conversion.marian import to_marian
from compressor.text.marian_languages import check_language, language_tokens

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


class HuggingFaceEngine:
    """Any encoder-decoder checkpoint, with its own generation configuration except for beams and length limit."""

    max_num_beams = None

    def __init__(self, spec: EngineSpec, threads: int) -> None:
        if spec.precision not in _DTYPES:
            raise ModelError(f"transformers engine: no precision {spec.precision}, choose {' or '.join(_DTYPES)}")
        self._device = torch_device(spec.device)
        torch.set_num_threads(threads)
        messages.set_verbosity_error()
        messages.disable_progress_bar()
        folder = Path(spec.path)
        model, self._text, self.parameters = _from_run(folder) if is_run(folder) else _from_checkpoint(spec)
        self._model = model.to(self._device, _DTYPES[spec.precision]).eval()
        self.size_mb = _size_mb(self._model, folder)
        self._options = self._text.options
        if spec.max_new_tokens is not None:
            self._options = {**self._options, "max_new_tokens": spec.max_new_tokens}
            self._model.generation_config.max_length = None  # one limit, not two

    def translate(self, texts: Sequence[str], *, num_beams: int) -> EngineOutput:
        """Tokenizes, generates and decodes one batch."""
        encoded = self._text.encode(texts)
        source, mask = encoded.ids.to(self._device), encoded.mask.to(self._device)
        with torch.inference_mode():
            ids = self._model.generate(
                input_ids=source, attention_mask=mask, num_beams=num_beams, do_sample=False, **self._options
            )
        config = self._model.generation_config
        eos = config.eos_token_id
        rows = [_until(row, set(eos) if isinstance(eos, list) else {eos}) for row in ids[:, 1:].tolist()]
        longest = self._options.get("max_new_tokens") or config.max_new_tokens or (config.max_length or 21) - 1
        texts, counts = self._text.decode(rows), [len(row) for row in rows]
        return EngineOutput(
            texts, counts, lambda: finish_reasons(rows, _unpadded(encoded.ids, encoded.mask), longest)(), encoded.cut
        )


def load(spec: EngineSpec, threads: int) -> HuggingFaceEngine:
    """Loads a folder or hub name, or a run in Marian's layout.

    Raises:
        ModelError: it is not an encoder-decoder checkpoint, or the run has another layout.
    """
    return HuggingFaceEngine(spec, threads)


class _Encoded(NamedTuple):
    """Padded ids and their mask, both [batch, source_len], and the number of sources that were cut."""

    ids: Tensor
    mask: Tensor
    cut: int


class _Text(Protocol):
    """Tokenization: texts to ids, and ids to texts."""

    options: dict[str, Any]
    """Arguments of `generate` that the checkpoint's own configuration lacks."""

    def encode(self, texts: Sequence[str]) -> _Encoded: ...

    def decode(self, rows: list[list[int]]) -> list[str]: ...


class _CheckpointText:
    """Texts and ids through the checkpoint's own tokenizer."""

    def __init__(self, tokenizer: Any, longest: int, spec: EngineSpec) -> None:
        self._tokenizer, self._prefix = tokenizer, spec.source_prefix
        self._languages = language_tokens(tokenizer.get_vocab()) if isinstance(tokenizer, MarianTokenizer) else ()
        self._longest = min(longest, tokenizer.model_max_length)
        self.options: dict[str, Any] = {}
        if spec.target_language is not None:
            first = type(tokenizer).__name__.startswith("MBartTokenizer")  # it starts with the language itself
            language = tokenizer.convert_tokens_to_ids(spec.target_language)
            self.options["decoder_start_token_id" if first else "forced_bos_token_id"] = language

    def encode(self, texts: Sequence[str]) -> _Encoded:
        sources = [self._prefix + text for text in texts]
        for source in sources:
            check_language(source, self._languages)
        batch = self._tokenizer(
            sources,
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=self._longest,
        )
        ids, mask = batch["input_ids"], batch["attention_mask"]
        longest = [
            source for source, length in zip(sources, mask.sum(1).tolist(), strict=True) if length == self._longest
        ]
        cut = sum(len(self._tokenizer(source)["input_ids"]) > self._longest for source in longest)
        return _Encoded(ids, mask, cut)

    def decode(self, rows: list[list[int]]) -> list[str]:
        texts: list[str] = self._tokenizer.batch_decode(rows, skip_special_tokens=True)
        return texts


class _RunText:
    """Texts and ids through the tokenizer of a run."""

    def __init__(self, run: Run) -> None:
        self._tokenizer, self._generation = run.tokenizer, run.generation
        self.options: dict[str, Any] = {}

    def encode(self, texts: Sequence[str]) -> _Encoded:
        rows, cut = encode_sources(self._tokenizer, texts, self._generation.max_source_tokens)
        source, mask = pad_sources(rows, self._generation.pad_id)
        return _Encoded(source, mask.long(), cut)

    def decode(self, rows: list[list[int]]) -> list[str]:
        return [self._tokenizer.decode(row) for row in rows]


def _from_checkpoint(spec: EngineSpec) -> tuple[Any, _Text, int | None]:
    """Returns model, tokenization and parameters of a Hugging Face checkpoint. Raises ModelError if it is none."""
    languages = {"src_lang": spec.source_language, "tgt_lang": spec.target_language}
    chosen = {key: value for key, value in languages.items() if value is not None}
    try:
        tokenizer = AutoTokenizer.from_pretrained(spec.path, revision=spec.revision, **chosen)
        model: Any = AutoModelForSeq2SeqLM.from_pretrained(spec.path, revision=spec.revision, dtype=torch.float32)
    except Exception as error:  # transformers raises many kinds; a user needs one line
        reason = " ".join(str(error).split())[:240]
        raise ModelError(f"{spec.path}: not a Hugging Face encoder-decoder checkpoint ({reason})") from None
    longest = getattr(model.config, "max_position_embeddings", None) or 10**9
    return model, _CheckpointText(tokenizer, longest, spec), count_parameters(model)


def _from_run(folder: Path) -> tuple[Any, _Text, int | None]:
    """Returns model, tokenization and parameters of a run, converted to MarianMT."""
    run = load_run(folder)
    return to_marian(run.model, run.generation), _RunText(run), count_parameters(run.model)


def _size_mb(model: nn.Module, folder: Path) -> float:
    """Bytes of the weight files; for a hub name, of the weights as they are in memory."""
    for pattern in _WEIGHTS:
        if files := list(folder.glob(pattern)):
            return sum(file.stat().st_size for file in files) / 1e6
    return sum(p.numel() * p.element_size() for p in model.parameters()) / 1e6


def _unpadded(source: Tensor, mask: Tensor) -> list[list[int]]:
    """Token ids of each source [batch, source_len] without its padding."""
    return [row[real].tolist() for row, real in zip(source, mask.bool(), strict=True)]


def _until(row: list[int], eos: set[int]) -> list[int]:
    """Tokens up to and with the first end of sentence; all of them where none came."""
    end = next((index + 1 for index, token in enumerate(row) if token in eos), len(row))
    return row[:end]
