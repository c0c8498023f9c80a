"""Recurrent students from recipe to bundle: training, int8, shortlist, streaming."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import compressor
from compressor.bundle import open_bundle
from compressor.config import parse_recipe
from compressor.decoding.search import beam_search, greedy, pad_sources
from compressor.models.weights import load_run
from compressor.runtime.generator import Generator
from tests.conftest import NOUNS, VERBS

pytestmark = pytest.mark.slow

TEXTS = [f"Der {one} {verb} den {other}." for one, verb, other in itertools.product(NOUNS, VERBS, NOUNS)][::9]
TEXTS += ["Baum", "den den Hund", "Der Arzt"]  # their outputs end early, so that the batch shrinks
PRECISIONS = ("fp32", "int8", "int8+shortlist")


@pytest.fixture(scope="module", params=["ssru", "sru"])
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def run_folder(architecture: str, tiny_recipe: Path, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student that starts from the tiny Transformer and learns from its own outputs."""
    values = yaml.safe_load(tiny_recipe.read_text(encoding="utf-8"))
    values["teacher"] = {"path": str(tiny_run)}
    values["method"] = {"name": "imitkd+full"}
    values["training"]["updates"] = 200
    if architecture == "ssru":
        values["student"]["architecture"] = "ssru"
        values["training"]["initialization"] = "teacher_layers"
    else:
        shared = {name: values["student"][name] for name in ("d_model", "max_length", "dropout")}
        values["student"] = {**shared, "architecture": "sru", "hidden_size": 64, "encoder_layers": 1}
        values["training"] |= {"initialization": "teacher_embeddings", "updates": 300, "learning_rate": 0.005}
    return compressor.distill(parse_recipe(values), tmp_path_factory.mktemp("runs") / architecture, progress=False)


@pytest.fixture(scope="module")
def bundle(run_folder: Path, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ungated: a difference of 0.3 BLEU on 30 sentences is luck."""
    return compressor.export(
        run_folder,
        tmp_path_factory.mktemp("bundles") / run_folder.name,
        precisions=("fp32", "int8+shortlist"),
        shortlist_source=tiny_corpus / "train.de",
        shortlist_target=tiny_corpus / "train.en",
        ungated=True,
        progress=False,
    )


def expected(run_folder: Path, num_beams: int) -> tuple[list[list[int]], list[list[int]]]:
    """Sources of ``TEXTS`` and what PyTorch generates for them."""
    run = load_run(run_folder)
    sources = [run.tokenizer.encode_source(text) for text in TEXTS]
    batch = pad_sources(sources, run.generation.pad_id)
    if num_beams == 1:
        return sources, greedy(run.model, run.generation, *batch)
    hypotheses = beam_search(run.model, run.generation, *batch, num_beams=num_beams)
    return sources, [best[0].tokens for best in hypotheses]


def test_rollouts_and_advice_train_it(run_folder: Path, architecture: str) -> None:
    lines = (run_folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps: list[dict[str, Any]] = [line for line in map(json.loads, lines) if "loss" in line]
    run = load_run(run_folder)
    assert run.model.config.architecture == architecture and max(step["student_share"] for step in steps) > 0
    assert run.record.dev is not None and run.record.dev.bleu is not None and run.record.dev.bleu > 50


def test_int8_writes_nearly_what_fp32_does(bundle: Path, architecture: str) -> None:
    manifest = open_bundle(bundle)
    assert manifest.architecture == architecture and set(manifest.precisions) == set(PRECISIONS)
    assert manifest.parity is not None and manifest.parity.fp32_identical == manifest.parity.sources > 0
    quality = manifest.precisions["int8"].quality
    assert quality is not None and quality.against_references is not None
    assert quality.against_fp32 is not None and quality.against_fp32 > 90  # BLEU
    report = json.loads((bundle / "parity.json").read_text(encoding="utf-8"))
    assert set(report["batch_independence"]) >= {"fp32", "int8"} and not any(report["batch_independence"].values())


@pytest.mark.parametrize("num_beams", [1, 3])
def test_the_bundle_generates_what_pytorch_does(bundle: Path, run_folder: Path, num_beams: int) -> None:
    sources, outputs = expected(run_folder, num_beams)
    generator = Generator.load(bundle, precision="fp32", intra_threads=1)
    limit = generator.manifest.generation.max_new_tokens  # PyTorch's; the bundle's own depends on the source
    assert generator.generate_ids(sources, num_beams=num_beams, max_new_tokens=limit) == outputs


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("num_beams", [1, 3])
def test_outputs_do_not_depend_on_the_batch(bundle: Path, precision: str, num_beams: int) -> None:
    generator = Generator.load(bundle, precision=precision, intra_threads=1)
    together = [result.token_ids for result in generator.generate(TEXTS, num_beams=num_beams)]
    assert together == [generator.generate([text], num_beams=num_beams)[0].token_ids for text in TEXTS]
    assert len(set(map(len, together))) > 1


@pytest.mark.parametrize("precision", PRECISIONS)
def test_streamed_pieces_join_to_the_output(bundle: Path, precision: str) -> None:
    generator = Generator.load(bundle, precision=precision, intra_threads=1)
    for text in TEXTS[:5]:
        pieces = list(generator.stream(text))
        assert len(pieces) > 1 and "".join(pieces) == generator.generate([text])[0].text
