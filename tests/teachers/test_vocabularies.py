"""Vocabularies that do not fit the usual picture: a token without a row, several target languages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, BartForConditionalGeneration, MarianMTModel

from benchmarks.engines.base import EngineSpec
from benchmarks.engines.transformers.engine import load as open_engine
from compressor.bundle import Manifest
from compressor.config import load_recipe
from compressor.decoding.search import greedy, pad_sources
from compressor.distillation.run import distill
from compressor.distillation.setup import set_up
from compressor.errors import ConfigError, InputError
from compressor.exporters.checkpoints import load_exportable
from compressor.generation_config import until_eos
from compressor.models.weights import load_run
from compressor.runtime.sources import SourceEncoder
from compressor.teacher_config import TeacherConfig
from compressor.teachers.huggingface import HuggingFaceTeacher
from compressor.text.tokenizer import load_tokenizer
from tests.teachers import checkpoints
from tests.teachers.conftest import SENTENCES

THREE_UPDATES = ("method.name=imitkd", "training.updates=3", "training.warmup_updates=1", "tokenizer={}")
LANGUAGES = (">>deu<<", ">>fra<<", ">>spa<<")


@pytest.fixture(scope="module")
def texts(tiny_corpus: Path) -> list[list[str]]:
    return [(tiny_corpus / f"train.{language}").read_text("utf-8").splitlines() for language in ("de", "en")]


@pytest.fixture(scope="module")
def bart(texts: list[list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bart")
    checkpoints.bart(folder, texts, mask_row=False)
    return folder


@pytest.fixture(scope="module")
def multilingual(texts: list[list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mul")
    checkpoints.marian(folder, texts, LANGUAGES)
    return folder


def test_a_mask_without_a_row_is_left_out(bart: Path) -> None:
    model, tokenizer = BartForConditionalGeneration.from_pretrained(bart), AutoTokenizer.from_pretrained(bart)
    assert tokenizer.mask_token_id == len(tokenizer) - 1 == model.config.vocab_size
    teacher = HuggingFaceTeacher(TeacherConfig(path=str(bart)))
    assert teacher.vocab_size == teacher.tokenizer.vocab_size == model.config.vocab_size
    assert [teacher.tokenizer.encode_source(text) for text in SENTENCES] == tokenizer(SENTENCES).input_ids
    assert max(teacher.tokenizer.encode_source("Der <mask> sieht.")) < teacher.vocab_size
    assert teacher.tokenizer.decode(teacher.tokenizer.encode_source("Der <mask> sieht.")) == "Der <mask> sieht."


def test_such_a_checkpoint_can_be_exported(bart: Path) -> None:
    run = load_exportable(bart, "summarization")
    ids = [run.tokenizer.encode_source(text) for text in SENTENCES]
    batch = AutoTokenizer.from_pretrained(bart)(SENTENCES, return_tensors="pt", padding=True)
    with torch.inference_mode():
        theirs = BartForConditionalGeneration.from_pretrained(bart).generate(**batch, num_beams=1)
    found = greedy(run.model, run.generation, *pad_sources(ids, run.generation.pad_id))
    for ours, expected in zip(found, theirs[:, 1:].tolist(), strict=True):
        assert ours == expected[: len(ours)] and ours[-1] == run.generation.eos_id


@pytest.mark.parametrize(
    ("prefix", "text", "problem"),
    [
        ("", "Der Hund.", "the model writes several languages: begin every source with one of >>deu<<, >>fra<<"),
        ("", ">>xyz<< Der Hund.", ">>xyz<< is not a language of the model: begin .* >>spa<<"),
        ("", ">>fra<< Der Hund.", None),
        (">>fra<< ", "Der Hund.", None),
    ],
)
def test_a_multilingual_model_needs_a_known_language(
    multilingual: Path, prefix: str, text: str, problem: str | None
) -> None:
    tokenizer = HuggingFaceTeacher(TeacherConfig(path=str(multilingual), source_prefix=prefix)).tokenizer
    theirs = AutoTokenizer.from_pretrained(multilingual)
    if problem is None:
        assert tokenizer.encode_source(text) == theirs(prefix + text).input_ids
    else:
        with pytest.raises(InputError, match=problem):
            tokenizer.encode_source(text)
        with pytest.raises(InputError, match=problem):
            spec = EngineSpec(engine="transformers", model="teacher", path=str(multilingual), precision="fp32")
            open_engine(spec, 1).translate([text], num_beams=1)


def test_an_unknown_prefix_is_refused_with_the_known_ones(multilingual: Path) -> None:
    with pytest.raises(ConfigError, match=r"source_prefix: >>xyz<< is not a token of .* which has >>deu<<, >>fra<<"):
        HuggingFaceTeacher(TeacherConfig(path=str(multilingual), source_prefix=">>xyz<< "))


def test_a_bundle_says_which_text_lacks_a_language(multilingual: Path) -> None:
    tokenizer = load_tokenizer(multilingual)
    manifest: Any = Manifest.model_construct(vocab_size=tokenizer.vocab_size, max_source_tokens=20)
    encoder = SourceEncoder(tokenizer, manifest)
    assert encoder.encode([tokenizer.example], "error")[0].token_ids
    with pytest.raises(InputError, match="text 2: the model writes several languages"):
        encoder.encode([">>fra<< Ja.", "Nein."], "error")


@pytest.fixture(scope="module", params=[1, -1], ids=["larger source", "larger target"])
def separate(request: pytest.FixtureRequest, texts: list[list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("separate")
    checkpoints.marian_separate(folder, texts[:: request.param], (45, 30)[:: request.param])
    (folder / "sources.txt").write_text("\n".join(texts[:: request.param][0][:4]), "utf-8")
    return folder


@pytest.mark.parametrize("num_beams", [1, 4])
def test_a_teacher_with_separate_vocabularies_writes_the_librarys_outputs(separate: Path, num_beams: int) -> None:
    sentences = (separate / "sources.txt").read_text("utf-8").splitlines()
    teacher = HuggingFaceTeacher(TeacherConfig(path=str(separate)))
    theirs, tokenizer = MarianMTModel.from_pretrained(separate), AutoTokenizer.from_pretrained(separate)
    sizes = [json.loads((separate / name).read_text("utf-8")) for name in ("vocab.json", "target_vocab.json")]
    assert len(sizes[0]) != len(sizes[1]) and teacher.vocab_size == max(map(len, sizes))
    ids = [teacher.tokenizer.encode_source(text) for text in sentences]
    assert ids == tokenizer(sentences).input_ids
    assert teacher.tokenizer.encode_target("The dog.") == tokenizer(text_target="The dog.").input_ids
    words = next(iter(tokenizer.target_encoder.keys() - tokenizer.encoder.keys() - {"<pad>"})).removeprefix("▁")
    assert teacher.tokenizer.decode(teacher.tokenizer.encode_target(words)) == words
    outputs = teacher.generate(*pad_sources(ids, teacher.generation.pad_id), num_beams)
    batch = tokenizer(sentences, return_tensors="pt", padding=True)
    expected = theirs.generate(**batch, num_beams=num_beams, do_sample=False)[:, 1:].tolist()
    for hypotheses, row in zip(outputs, expected, strict=True):
        assert hypotheses[0].tokens == until_eos(row, 0, -1)


def test_its_student_has_an_embedding_for_each_side(separate: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    tied = load_recipe(tiny_recipe, [f"teacher.path={separate}", *THREE_UPDATES])
    with pytest.raises(ConfigError, match=r"separate vocabularies[\s\S]*student.tie_embeddings: true, set it to false"):
        set_up(tied)
    untied = tied.model_copy(update={"student": tied.student.model_copy(update={"tie_embeddings": False})})
    run = load_run(distill(untied, tmp_path / "run", progress=False))
    ids = run.tokenizer.encode_source(SENTENCES[0])
    (tokens,) = greedy(run.model, run.generation, *pad_sources([ids], run.generation.pad_id))
    assert max(tokens) < len(json.loads((separate / "target_vocab.json").read_text("utf-8")))


def test_a_text_in_quotation_marks_is_text_where_there_are_no_languages(texts: list[list[str]], tmp_path: Path) -> None:
    checkpoints.marian(tmp_path, texts, ())
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode_source(">>Hund<<")
