"""Tiny random checkpoints of every family, opened both by the project and by Hugging Face."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import transformers
from torch import Tensor
from transformers.utils import logging as hf_logging

from compressor.decoding.search import pad_sources
from compressor.teacher_config import TeacherConfig
from compressor.teachers.huggingface import HuggingFaceTeacher
from tests.teachers.checkpoints import BUILDERS

RECIPE_FIELDS: dict[str, dict[str, str]] = {
    "marian": {},
    "bart": {},
    "t5": {"source_prefix": "summarize: "},
    "mbart": {"source_language": "de_DE", "target_language": "en_XX"},
    "mbart50": {"source_language": "de_DE", "target_language": "en_XX"},
    "m2m100": {"source_language": "de", "target_language": "en"},
}
"""What a recipe must say about a teacher of each family."""

SENTENCES = [
    "Der Hund sieht den Baum.",
    "Der Junge kennt den Arzt, den Mann und den Vogel.",
    "Baum",
    " Der  Tisch: 3,5 größere — „Vögel“!",
]


@dataclass
class Pair:
    """The same checkpoint twice: as the project opens it, and as Hugging Face does."""

    ours: HuggingFaceTeacher
    model: Any
    tokenizer: Any
    config: TeacherConfig

    def their_ids(self, text: str) -> list[int]:
        return list(self.tokenizer(self.config.source_prefix + text).input_ids)

    def batch(self) -> tuple[Tensor, Tensor]:
        """The test sentences: int64 and bool [batch, source_len]."""
        return pad_sources([self.their_ids(text) for text in SENTENCES], self.tokenizer.pad_token_id)

    @property
    def trained_numbers(self) -> int:
        """Parameters without Marian's two sinusoidal position tables, which Hugging Face counts."""
        described = self.model.config
        tables = 2 * described.max_position_embeddings * described.d_model if described.model_type == "marian" else 0
        return int(self.model.num_parameters()) - tables


@pytest.fixture(scope="session")
def checkpoint(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``checkpoint("bart")``: the folder of a tiny random checkpoint of that family."""
    texts = [(tiny_corpus / f"train.{language}").read_text("utf-8").splitlines() for language in ("de", "en")]
    hf_logging.disable_progress_bar()

    @cache
    def build(family: str) -> Path:
        folder = tmp_path_factory.mktemp(family)
        BUILDERS[family](folder, texts)
        return folder

    return build


@pytest.fixture(scope="session")
def open_pair(checkpoint: Callable[[str], Path]) -> Callable[[str], Pair]:
    """``open_pair("bart")``: that checkpoint, opened by both."""

    @cache
    def open_both(family: str) -> Pair:
        folder, fields = checkpoint(family), RECIPE_FIELDS[family]
        languages = {"src_lang": fields.get("source_language"), "tgt_lang": fields.get("target_language")}
        config = TeacherConfig(path=str(folder), **fields)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **{k: v for k, v in languages.items() if v})
            model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
        return Pair(HuggingFaceTeacher(config), model, tokenizer, config)

    return open_both


@pytest.fixture(params=list(BUILDERS))
def pair(request: pytest.FixtureRequest, open_pair: Callable[[str], Pair]) -> Pair:
    """Every family in turn."""
    return open_pair(request.param)
