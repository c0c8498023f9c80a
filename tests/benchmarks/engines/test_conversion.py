"""What other engines are given, and where they live."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks.engines import environments
from benchmarks.engines.base import EngineSpec
from benchmarks.engines.conversion import ConvertingConnector
from benchmarks.engines.converted_model import read_converted
from benchmarks.engines.marian import converter as marian
from benchmarks.engines.optimum import converter as checkpoint
from benchmarks.engines.registry import ENGINES
from compressor.errors import DependencyError, ModelError
from compressor.models.weights import load_run

TEXTS = ["Der Hund sieht den Baum.", "Der Arzt sucht den Tisch.", "Der Vogel ruft den Mann."]


def spec(engine: str, path: Path, precision: str = "fp32") -> EngineSpec:
    return EngineSpec(engine=engine, model="student", path=str(path), precision=precision)  # type: ignore[arg-type]


def commands(spec: EngineSpec) -> list[list[str]]:
    return ENGINES[spec.engine].conversion(spec)


@pytest.mark.slow
def test_a_model_is_converted_once_and_runs_in_a_process_of_its_own(tiny_run: Path, tmp_path: Path) -> None:
    connect, expected = ConvertingConnector(tmp_path), ConvertingConnector(tmp_path)(spec("torch", tiny_run), 1)
    first = connect(spec("ctranslate2", tiny_run), 1)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    second = connect(spec("ctranslate2", tiny_run), 1)
    try:
        assert made and made == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        assert first.translate(TEXTS, 1).texts == second.translate(TEXTS, 1).texts == expected.translate(TEXTS, 1).texts
    finally:
        for host in (first, second, expected):
            host.close()


def test_what_cannot_be_converted_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent: cannot be converted to ctranslate2 .*not a run folder"):
        ConvertingConnector(tmp_path / "work")(spec("ctranslate2", tmp_path / "absent"), 1)
    assert not list((tmp_path / "work").iterdir())
    with pytest.raises(ModelError, match=r"not converted"):
        read_converted(tmp_path)


def test_other_engines_convert_with_their_own_tools(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("optimum", "marian"):
        monkeypatch.setattr(
            f"benchmarks.engines.{name}.descriptor.tool_of", lambda engine, tool: f"/{engine.name}/{tool}"
        )
    python, task = sys.executable, ["--task", "text2text-generation-with-past"]
    assert commands(spec("optimum", tiny_run)) == [
        [python, "-m", "benchmarks.engines.optimum.converter", str(tiny_run), "{}"],
        ["/optimum/optimum-cli", "export", "onnx", "--model", "{}/model", *task, "{}/model"],
    ]
    own = [python, "-m", "benchmarks.engines.marian.converter", str(tiny_run), "{}"]
    assert commands(spec("marian", tiny_run)) == [own]
    packed = [
        "/marian/pymarian",
        "convert",
        "-f",
        "{}/model/model.npz",
        "-t",
        "{}/model/model.bin",
        "--gemm-type",
        "intgemm8",
    ]
    assert commands(spec("marian", tiny_run, "int8")) == [own, packed]
    assert commands(spec("transformers", tiny_run)) == commands(spec("torch", tiny_run)) == []


def test_environments_are_made_once_and_say_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        (tmp_path / "openvino").mkdir(exist_ok=True)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    programs = tmp_path / "openvino" / "bin"
    python = str(programs / "python")
    assert environments.python_of(ENGINES["onnx"], tmp_path) == sys.executable and not ran
    assert (
        environments.python_of(ENGINES["openvino"], tmp_path)
        == environments.python_of(ENGINES["openvino"], tmp_path)
        == python
    )
    assert environments.tool_of(ENGINES["openvino"], "optimum-cli", tmp_path) == str(
        tmp_path / "openvino" / "bin" / "optimum-cli"
    )
    assert [command[-1] for command in ran[::2]] == [str(tmp_path / "openvino"), "torchvision"]
    assert set(ENGINES["openvino"].environment.packages) < set(ran[1]) and len(ran) == 3

    def fail(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "ERROR: no such thing\nERROR: No matching distribution\n")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(DependencyError, match=r"environment of marian cannot be made: ERROR: No matching distribution"):
        environments.python_of(ENGINES["marian"], tmp_path)


def test_a_checkpoint_for_others_has_the_same_weights(tiny_run: Path, tmp_path: Path) -> None:
    from transformers import MarianMTModel

    from compressor.teachers.conversion.marian import from_marian

    checkpoint.convert(tiny_run, tmp_path)
    run = load_run(tiny_run)
    theirs = from_marian(MarianMTModel.from_pretrained(tmp_path / "model"))
    assert all((theirs.state_dict()[name] == value).all() for name, value in run.model.state_dict().items())
    described, tokenizer = read_converted(tmp_path)
    assert (described.eos_id, described.pad_id) == (run.generation.eos_id, run.generation.pad_id)
    assert tokenizer.encode_source(TEXTS[0]) == run.tokenizer.encode_source(TEXTS[0])


def test_marians_own_form_is_read_by_another_engine(tmp_path: Path) -> None:
    """CTranslate2 has a converter for Marian's files: its outputs are the run's."""
    import ctranslate2 as library
    from ctranslate2.converters import MarianConverter

    from benchmarks.engines.random_model import Shape, random_run, random_texts
    from compressor.decoding.search import greedy, pad_sources
    from compressor.models.weights import save_run

    run = random_run(Shape(2, 1, 16, 32, 2, 80), max_length=32)
    save_run(tmp_path / "run", run)
    run = load_run(tmp_path / "run")  # its weights have 16 bits on disk
    marian.convert(tmp_path / "run", tmp_path / "own")
    model, vocabulary = (str(tmp_path / "own" / "model" / name) for name in ("model.npz", "vocab.yml"))
    settings = np.load(model)["special:model.yml"].tobytes()
    assert settings.endswith(b"\0") and yaml.safe_load(settings[:-1])["dim-vocabs"] == [79, 79]
    MarianConverter(model, [vocabulary, vocabulary]).convert(str(tmp_path / "theirs"))
    ids = [run.tokenizer.encode_source(text) for text in random_texts(80, 6, 9)]
    words = [[f"w{token}" for token in row[:-1]] for row in ids]  # the end is added there
    translator = library.Translator(str(tmp_path / "theirs"), compute_type="float32")
    results = translator.translate_batch(words, beam_size=1, max_decoding_length=6)
    outputs = [[int(word[1:]) for word in result.hypotheses[0]] for result in results]
    expected = greedy(run.model, run.generation, *pad_sources(ids, run.generation.pad_id), 7)
    assert outputs == [row[:6] for row in expected]  # the seventh is the end, which is forced on ours


def test_marian_wants_padding_last(tiny_run: Path) -> None:
    run = load_run(tiny_run)
    run.generation = run.generation.model_copy(update={"pad_id": 1})
    with pytest.raises(ModelError, match="whose last token is padding"):
        marian.parameters(run)
