"""A Marian checkpoint is exported as it is, and searches as Hugging Face does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, BartForConditionalGeneration, MarianMTModel

from compressor import export as export_bundle
from compressor.errors import ConfigError, ExportError, ModelError
from compressor.exporters.checkpoints import load_exportable
from compressor.runtime.generator import Generator
from tests.teachers import checkpoints
from tests.teachers.conftest import SENTENCES


@pytest.fixture(scope="module")
def texts(tiny_corpus: Path) -> list[list[str]]:
    return [(tiny_corpus / f"train.{language}").read_text("utf-8").splitlines() for language in ("de", "en")]


@pytest.fixture(scope="module")
def checkpoint(texts: list[list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("marian")
    checkpoints.marian(folder, texts)
    return folder


@pytest.fixture(scope="module")
def generators(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Generator]:
    folder = tmp_path_factory.mktemp("exported")
    (folder / "dev.de").write_text("\n".join(SENTENCES) + "\n", encoding="utf-8")
    bundle = export_bundle(checkpoint, folder / "bundle", dev_source=folder / "dev.de", ungated=True)
    return {name: Generator.load(bundle, precision=name, intra_threads=1) for name in ("fp32", "int8")}


def search(generator: Generator, num_beams: int) -> tuple[list[str], list[float | None]]:
    """The best outputs and their scores, as the search ends them: ``generate`` would cut their loops."""
    sources = [source.token_ids for source in generator.encode(SENTENCES)]
    best = [hypotheses[0] for hypotheses in generator.search_ids(sources, num_beams=num_beams)]
    return [generator.tokenizer.decode(one.token_ids) for one in best], [one.score for one in best]


@pytest.mark.parametrize("num_beams", [1, 4])
def test_outputs_are_those_of_generate(checkpoint: Path, generators: dict[str, Generator], num_beams: int) -> None:
    """Under the checkpoint's own rules; as in opus-mt models, log-probabilities are renormalised."""
    model, tokenizer = MarianMTModel.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    batch = tokenizer(list(SENTENCES), return_tensors="pt", padding=True)
    with torch.inference_mode():
        generated = model.generate(
            **batch, num_beams=num_beams, do_sample=False, return_dict_in_generate=True, output_scores=True
        )
    expected = tokenizer.batch_decode(generated.sequences, skip_special_tokens=True)
    texts, scores = search(generators["fp32"], num_beams)
    assert texts == expected
    if num_beams > 1:
        assert scores == pytest.approx(generated.sequences_scores.tolist(), abs=1e-4)
    assert len(generators["int8"].generate(SENTENCES, num_beams=num_beams)) == len(expected)


def test_the_manifest_names_the_checkpoint(checkpoint: Path, generators: dict[str, Generator]) -> None:
    lineage = generators["int8"].manifest.lineage
    assert lineage.teacher is not None and lineage.teacher["name"] == checkpoint.name and lineage.method is None


@pytest.mark.slow
def test_bart_is_exported_as_it_is(texts: list[list[str]], tiny_corpus: Path, tmp_path: Path) -> None:
    """With its forced tokens, blocked n-grams, least length and early stopping; the task is said by the user."""
    (tmp_path / "bart").mkdir()
    checkpoints.bart(tmp_path / "bart", texts)
    dev = tiny_corpus / "dev.de"
    bundle = export_bundle(
        tmp_path / "bart", tmp_path / "bundle", precisions=["fp32"], task="summarization", dev_source=dev
    )
    generator = Generator.load(bundle, intra_threads=1)
    assert generator.task == "summarization"
    model = BartForConditionalGeneration.from_pretrained(tmp_path / "bart")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "bart")
    batch = tokenizer(list(SENTENCES), return_tensors="pt", padding=True)
    for num_beams in (1, 3):
        with torch.inference_mode():
            generated = model.generate(**batch, num_beams=num_beams)
        expected = tokenizer.batch_decode(generated, skip_special_tokens=True)
        assert search(generator, num_beams)[0] == expected


def test_other_layouts_are_to_be_distilled(texts: list[list[str]], tmp_path: Path) -> None:
    checkpoints.t5(tmp_path, texts)
    with pytest.raises(ExportError, match=r"only runs, Marian and BART checkpoints.*distil"):
        load_exportable(tmp_path)


def test_multilingual_checkpoints_are_told_so_without_options_that_export_lacks(
    texts: list[list[str]], tmp_path: Path
) -> None:
    checkpoints.mbart50(tmp_path, texts)
    with pytest.raises(ExportError, match=r"only runs, Marian and BART checkpoints.*distil"):
        load_exportable(tmp_path)


def test_a_bundle_is_no_model_to_export(tiny_bundle: Path) -> None:
    with pytest.raises(ExportError, match="a bundle already; give the run or the checkpoint"):
        load_exportable(tiny_bundle)


def test_a_run_has_a_task_of_its_own(tiny_run: Path) -> None:
    with pytest.raises(ConfigError, match="task is for checkpoints"):
        load_exportable(tiny_run, "summarization")


def test_a_checkpoint_with_only_a_bin_file(checkpoint: Path, texts: list[list[str]], tmp_path: Path) -> None:
    """As most opus-mt models were published."""
    folder = Path(shutil.copytree(checkpoint, tmp_path / "bin"))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    expected, actual = load_exportable(checkpoint).model.state_dict(), load_exportable(folder).model.state_dict()
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


@pytest.mark.parametrize("make", [lambda path: path / "none", lambda path: path], ids=["no folder", "an empty folder"])
def test_what_is_no_model_is_told_so(tmp_path: Path, make: Any) -> None:
    with pytest.raises(ModelError, match=r"not a run folder|no such"):
        load_exportable(make(tmp_path))
