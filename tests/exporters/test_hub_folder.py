"""A run as a Hugging Face folder: transformers and CTranslate2 write the run's tokens, and it can be opened again."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import ctranslate2
import pytest
import torch
from ctranslate2.converters import TransformersConverter
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, BartForConditionalGeneration, MarianMTModel

from compressor import distill, export
from compressor.data.tokenizer_training import train_sentencepiece
from compressor.decoding.search import greedy, pad_sources
from compressor.errors import ConfigError, ModelError, OutputExistsError
from compressor.exporters.checkpoints import load_exportable
from compressor.generation_config import GenerationConfig, until_eos
from compressor.model_config import complete_config
from compressor.models.registry import build_model
from compressor.models.weights import Run, load_run, save_run
from compressor.run_folder import WEIGHTS_FILE, RunRecord, read_record
from compressor.teacher_config import TeacherConfig
from compressor.teachers.huggingface import HuggingFaceTeacher
from compressor.text.tokenizer import load_tokenizer
from tests.models.test_contract import small_student
from tests.teachers import checkpoints

RUNS = ("trained", "bytes", "marian", "bart", "bart without a mask", "student of bart", "bart with pieces")
CHECKPOINTS = RUNS[2:5]
SOURCES, PIECES = 200, 290
BART = ["student.positions=learned", "student.embedding_norm=true", "student.activation=gelu"]
BART += ["student.scale_embedding=false", "student.d_model=16", "student.encoder_ffn=16", "student.decoder_ffn=16"]
BART += ["tokenizer.vocabulary=corpus", "training.initialization=teacher_layers", "training.updates=100"]
"""The recipe of a student in BART's layout, with its tokenizer cut to the corpus."""
ODD_TEXTS = ["  Zwei  Häuser\u00a0.", "</s> <pad> <unk> <s>", "日本語 😀 ½ ﬁ", "Der Hund, 3,5 % — „Vögel“!"]


def random_run(folder: Path, lines: list[str], architecture: str = "transformer", **sizes: Any) -> Path:
    """A student of random weights, more layers and bytes among its pieces; outputs depend on the source."""
    train_sentencepiece(lines, folder, PIECES)
    tokenizer = load_tokenizer(folder)
    fields = {"d_model": 16, "num_heads": 2, "encoder_layers": 3, "decoder_layers": 2, "encoder_ffn": 40}
    student = small_student(architecture, fields | {"decoder_ffn": 24, "max_length": 48} | sizes)
    config = complete_config(student, PIECES, tokenizer.pad_id)
    torch.manual_seed(3)
    model = build_model(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)
        model.output_bias[tokenizer.eos_id] += 8.0
        model.output_bias[7] += 9.0  # suppressed below, and else the most frequent token
    rules = GenerationConfig(
        start_id=tokenizer.pad_id,
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
        suppressed_ids=(0, 1, 3, 7),
        max_new_tokens=20,
        min_new_tokens=2,
        num_beams=4,
        length_penalty=0.8,
        max_source_tokens=40,
    )
    save_run(folder / "run", Run(model, rules, tokenizer, record=RunRecord(task="translation", target_language="en")))
    return folder / "run"


@pytest.fixture(scope="module")
def lines(tiny_corpus: Path) -> list[str]:
    return (tiny_corpus / "train.de").read_text("utf-8").splitlines()


@pytest.fixture(scope="module")
def model_of(
    tiny_run: Path, tiny_recipe: Path, tiny_corpus: Path, lines: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    @cache
    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        match name:
            case "trained":
                return tiny_run
            case "bytes":
                return random_run(folder, lines)
            case "bart with pieces":
                return random_run(folder, lines, positions="learned", embedding_norm=True)
            case "student of bart":
                recipe = [*BART, f"teacher.path={make('bart')}", "student.max_length=40"]
                return distill(tiny_recipe, folder / "run", overrides=recipe, progress=False)
        english = (tiny_corpus / "train.en").read_text("utf-8").splitlines()
        if name == "marian":
            checkpoints.marian(folder, [lines, english])
        else:
            unread = ["Welche Farbe haben Zebras?"] * 300  # tokens that a student of the corpus leaves out
            checkpoints.bart(folder, [lines, english, unread], mask_row=name == "bart")
        return folder

    return make


@pytest.fixture(scope="module")
def folder_of(model_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``folder_of("bytes")``: that model, exported in fp32."""
    return cache(
        lambda name: export(
            model_of(name), tmp_path_factory.mktemp("hub") / name, format="transformers", task=task(name)
        )
    )


def task(name: str) -> str | None:
    return "translation" if name in CHECKPOINTS else None


def greedy_ids(run: Run, texts: list[str]) -> list[list[int]]:
    source, mask = pad_sources([run.tokenizer.encode_source(text) for text in texts], run.generation.pad_id)
    return greedy(run.model, run.generation, source, mask)


@pytest.mark.parametrize("name", RUNS)
def test_transformers_writes_the_runs_tokens(
    model_of: Callable[[str], Path], folder_of: Callable[[str], Path], lines: list[str], name: str
) -> None:
    run, folder, texts = load_exportable(model_of(name)), folder_of(name), lines[:SOURCES]
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSeq2SeqLM.from_pretrained(folder)
    assert isinstance(model, BartForConditionalGeneration if "bart" in name else MarianMTModel)
    for text in [*texts, *ODD_TEXTS]:
        assert tokenizer(text, verbose=False).input_ids == run.tokenizer.encode_source(text)
    written = model.generate(**tokenizer(texts, return_tensors="pt", padding=True), num_beams=1, do_sample=False)
    expected = greedy_ids(run, texts)
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    assert [until_eos(row, eos, pad) for row in written[:, 1:].tolist()] == expected
    assert len({tuple(row) for row in expected}) > SOURCES // 8
    theirs = tokenizer.batch_decode(expected, skip_special_tokens=True)
    assert [text.strip() for text in theirs] == [run.tokenizer.decode(row).strip() for row in expected]


@pytest.mark.parametrize("name", RUNS)
def test_ctranslate2_writes_the_runs_tokens(
    model_of: Callable[[str], Path], folder_of: Callable[[str], Path], lines: list[str], tmp_path: Path, name: str
) -> None:
    """It takes limits and a forced first token with each call, and does not force the end at the limit."""
    run, tokenizer = load_exportable(model_of(name)), AutoTokenizer.from_pretrained(folder_of(name))
    TransformersConverter(str(folder_of(name))).convert(str(tmp_path / "ct2"), quantization="float32")
    translator = ctranslate2.Translator(str(tmp_path / "ct2"), compute_type="float32", intra_threads=1)
    rules, first = run.generation, run.generation.forced_bos_id
    results = translator.translate_batch(
        [tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids) for text in lines[:SOURCES]],
        beam_size=1,
        max_decoding_length=rules.max_new_tokens - (rules.forced_eos_id is not None),
        min_decoding_length=rules.min_new_tokens,
        no_repeat_ngram_size=rules.no_repeat_ngram_size,
        target_prefix=None if first is None else [[tokenizer.convert_ids_to_tokens(first)]] * SOURCES,
    )
    written = [tokenizer.convert_tokens_to_ids(result.hypotheses[0]) for result in results]
    eos = rules.eos_id
    assert written == [row[:-1] if row[-1] == eos else row for row in greedy_ids(run, lines[:SOURCES])]


@pytest.mark.parametrize("name", RUNS)
def test_the_folder_is_a_teacher_and_can_be_exported_again(
    model_of: Callable[[str], Path], folder_of: Callable[[str], Path], lines: list[str], tmp_path: Path, name: str
) -> None:
    run, teacher = load_exportable(model_of(name)), HuggingFaceTeacher(TeacherConfig(path=str(folder_of(name))))
    again = load_exportable(folder_of(name))
    changed = {"start_id", "pad_id", "suppressed_ids"}
    assert again.generation.model_dump(exclude=changed) == run.generation.model_dump(exclude=changed)
    assert set(again.generation.suppressed_ids) - {again.generation.pad_id} == set(run.generation.suppressed_ids) - {
        again.generation.pad_id
    }
    texts = [*lines[:20], *ODD_TEXTS[2:]]
    assert [again.tokenizer.encode_source(text) for text in texts] == [run.tokenizer.encode_source(t) for t in texts]
    assert greedy_ids(again, texts) == greedy_ids(run, texts)
    source, mask = pad_sources([run.tokenizer.encode_source(text) for text in texts], again.generation.pad_id)
    outputs = [hypotheses[0].tokens for hypotheses in teacher.generate(source, mask, 1)]
    assert outputs == greedy_ids(run, texts)
    export(folder_of(name), tmp_path / "twice", format="transformers")
    first, second = (load_file(folder / "model.safetensors") for folder in (folder_of(name), tmp_path / "twice"))
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_a_student_of_bart_has_a_part_of_its_tokenizer(folder_of: Callable[[str], Path]) -> None:
    student, teacher = (AutoTokenizer.from_pretrained(folder_of(name)) for name in ("student of bart", "bart"))
    assert len(student) < len(teacher) == 320 and student.get_vocab().keys() < teacher.get_vocab().keys()


def test_fp16_stores_the_same_numbers_in_half_the_space(model_of: Callable[[str], Path], tmp_path: Path) -> None:
    """A run stores fp16, so that nothing is lost."""
    folder = export(model_of("bytes"), tmp_path / "half", format="transformers", precisions=("fp16",))
    stored, run = load_file(folder / "model.safetensors"), load_run(model_of("bytes"))
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    assert torch.equal(stored["model.shared.weight"][:-1].float(), run.model.embedding["shared"])


def test_the_card_has_the_hubs_header_and_the_record_no_sentences(tiny_run: Path, tmp_path: Path) -> None:
    folder = export(tiny_run, tmp_path / "hub", format="transformers")
    card = ModelCard.load(folder / "README.md")
    wanted = {"language": ["de", "en"], "license": "apache-2.0", "library_name": "transformers"}
    assert wanted.items() <= card.data.to_dict().items() and card.data.pipeline_tag == "translation"
    expected, record = read_record(tiny_run), read_record(folder)
    assert record.dev == expected.dev and f"{expected.dev.bleu:.1f}" in card.text  # type: ignore[union-attr]
    assert record.data is not None and record.data.report.examples == {} and record.data.report_text == ""


def test_the_card_of_a_bart_folder_says_what_ctranslate2_is_given(folder_of: Callable[[str], Path]) -> None:
    card = ModelCard.load(folder_of("bart") / "README.md")
    assert "bart" in (card.data.tags or []) and "A Transformer in BART's layout" in card.text
    options = ["max_decoding_length=18", "min_decoding_length=7", "no_repeat_ngram_size=3", 'target_prefix=[["<s>"]]']
    assert all(option in card.text for option in options)


def test_an_existing_folder_is_replaced_only_on_demand(tiny_run: Path, tmp_path: Path) -> None:
    folder = export(tiny_run, tmp_path / "hub", format="transformers")
    with pytest.raises(OutputExistsError):
        export(tiny_run, folder, format="transformers")
    assert export(tiny_run, folder, format="transformers", force=True) == folder


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"norm": "pre"}, "post-norm"),
        ({"tie_embeddings": False}, "tied"),
        ({"architecture": "ssru"}, "no class for the architecture ssru: .* as a bundle"),
        ({"architecture": "sru"}, "no class for the architecture sru: .* as a bundle"),
        ({"positions": "learned"}, "positions are learned and embedding_norm is false"),
    ],
    ids=str,
)
def test_other_layouts_are_refused_before_weights_are_read(
    lines: list[str], tmp_path: Path, sizes: dict[str, Any], message: str
) -> None:
    run = random_run(tmp_path, lines, **sizes)
    (run / WEIGHTS_FILE).unlink()
    with pytest.raises(ModelError, match=message):
        export(run, tmp_path / "hub", format="transformers")
    assert not (tmp_path / "hub").exists()


def test_a_student_of_bart_without_its_layout_is_told_how_to_get_it(lines: list[str], tmp_path: Path) -> None:
    run = load_run(random_run(tmp_path, lines))
    run.generation = run.generation.model_copy(update={"start_id": run.generation.eos_id})
    save_run(tmp_path / "other", run)
    with pytest.raises(ModelError, match="positions: learned and embedding_norm: true in the recipe's student"):
        export(tmp_path / "other", tmp_path / "hub", format="transformers")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precisions": ("int8",)}, "precisions: with format transformers give one of fp32, fp16, not int8"),
        ({"precisions": ("fp32", "fp16")}, "give one of fp32, fp16, not fp32, fp16"),
        ({"dev_source": "dev.de", "ungated": True}, "dev_source, ungated: for bundles"),
    ],
    ids=str,
)
def test_options_of_bundles_are_refused(tiny_run: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        export(tiny_run, tmp_path / "hub", format="transformers", **options)
