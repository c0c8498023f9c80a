"""Engines against the libraries that they drive, on the tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.engines.base import Engine, EngineSpec
from benchmarks.engines.registry import import_engine
from compressor.bundle import read_manifest
from compressor.errors import BundleError, CompressError, ModelError

TEXTS = ["Der Hund sieht den Baum.", "Der Arzt sucht den Tisch.", "Der Vogel ruft den Mann."]


def load(engine: str, path: Path, **fields: object) -> Engine:
    return import_engine(engine)(EngineSpec(engine=engine, model="student", path=str(path), **fields), 1)


def translate(engine: Engine, texts: list[str], **options: int) -> tuple[list[str], list[int], list[str]]:
    """Texts, tokens and finish reasons of a batch."""
    output = engine.translate(texts, **options)
    assert output.finish_reasons is not None
    return output.texts, output.tokens, list(output.finish_reasons())


def test_torch_is_the_runs_own_greedy_search(tiny_run: Path) -> None:
    from compressor.decoding.search import beam_search, greedy, pad_sources
    from compressor.models.weights import load_run

    run, engine = load_run(tiny_run), load("torch", tiny_run)
    source, mask = pad_sources([run.tokenizer.encode_source(text) for text in TEXTS], run.generation.pad_id)
    ids = greedy(run.model, run.generation, source, mask)
    assert translate(engine, TEXTS, num_beams=1) == (
        [run.tokenizer.decode(row) for row in ids],
        [len(row) for row in ids],
        ["eos"] * len(TEXTS),
    )
    hypotheses = beam_search(run.model, run.generation, source, mask, num_beams=3)
    assert engine.translate(TEXTS, num_beams=3).tokens == [len(best[0].tokens) for best in hypotheses]
    assert engine.size_mb == (tiny_run / "model.safetensors").stat().st_size / 1e6


def test_sources_that_are_cut_are_counted(tiny_run: Path, tiny_bundle: Path) -> None:
    texts = [TEXTS[0], TEXTS[0] * 20, TEXTS[0] * 30]
    run_engines = load("torch", tiny_run), load("transformers", tiny_run)
    for engine in (*run_engines, load("onnx", tiny_bundle, precision="fp32")):
        assert engine.translate(texts, num_beams=1).cut_sources == 2


def test_a_checkpoint_counts_sources_over_its_limit(marian_folder: Path) -> None:
    from transformers import AutoConfig, AutoTokenizer

    limit = AutoConfig.from_pretrained(marian_folder).max_position_embeddings
    tokenizer, engine = AutoTokenizer.from_pretrained(marian_folder), load("transformers", marian_folder)
    texts = [" ".join(["w5"] * count) for count in (limit - 1, limit, 3 * limit)]  # and the end of sentence
    assert [len(tokenizer(text)["input_ids"]) for text in texts] == [limit, limit + 1, 3 * limit + 1]
    assert engine.translate(texts, num_beams=1).cut_sources == 2


def test_all_engines_give_the_same_output_for_the_same_weights(tiny_run: Path, tiny_bundle: Path) -> None:
    own, theirs = load("torch", tiny_run), load("transformers", tiny_run)
    graph = load("onnx", tiny_bundle, precision="fp32")
    for beams in (1, 3):
        expected = translate(own, TEXTS, num_beams=beams)
        assert translate(theirs, TEXTS, num_beams=beams) == expected
        assert translate(graph, TEXTS, num_beams=beams) == expected
    assert own.parameters == theirs.parameters == graph.parameters
    most = read_manifest(tiny_bundle).max_num_beams
    assert (own.max_num_beams, theirs.max_num_beams, graph.max_num_beams) == (None, None, most)


def test_engines_agree_on_outputs_that_stop_at_the_limit(tiny_run: Path, tiny_bundle: Path) -> None:
    engines = [
        load("torch", tiny_run, max_new_tokens=3),
        load("transformers", tiny_run, max_new_tokens=3),
        load("onnx", tiny_bundle, precision="fp32", max_new_tokens=3),
    ]
    for engine in engines:
        assert translate(engine, TEXTS, num_beams=1)[1:] == ([3] * 3, ["length"] * 3)


def test_a_bundles_size_is_that_of_its_precision(tiny_bundle: Path) -> None:
    for precision in ("fp32", "int8"):
        files = [tiny_bundle / precision / name for name in ("generate.onnx", "weights.bin")]
        size = sum(file.stat().st_size for file in files) / 1e6
        assert load("onnx", tiny_bundle, precision=precision).size_mb == pytest.approx(size)


def test_a_checkpoint_runs_through_its_own_tokenizer_and_generate(marian_folder: Path) -> None:
    import torch
    from transformers import AutoModelForSeq2SeqLM

    model = AutoModelForSeq2SeqLM.from_pretrained(marian_folder)
    eos = model.generation_config.eos_token_id
    engine = load("transformers", marian_folder, max_new_tokens=9)
    output = engine.translate(["w7 w8 w9", "w10 w11"], num_beams=2)
    for text, answer, tokens in zip(([7, 8, 9], [10, 11]), *output[:2], strict=True):
        ids = model.generate(input_ids=torch.tensor([[*text, eos]]), num_beams=2, do_sample=False, max_new_tokens=9)
        assert answer.split() == [f"w{index}" for index in ids[0].tolist()[1:] if index != eos]
        assert tokens == ids.shape[1] - 1 <= 9


def test_ctranslate2_gives_what_generate_gives(tiny_run: Path, tmp_path: Path) -> None:
    from benchmarks.engines.ctranslate2.converter import convert

    own = load("torch", tiny_run)
    for precision in ("fp32", "int8"):
        convert(tiny_run, tmp_path / precision, precision)
        theirs = load("ctranslate2", tmp_path / precision, precision=precision)
        assert (theirs.parameters, theirs.max_num_beams) == (own.parameters, None)
        for beams in (1, 3):
            actual, expected = (translate(engine, TEXTS, num_beams=beams) for engine in (theirs, own))
            assert len(actual[0]) == len(TEXTS) and theirs.size_mb > 0
            assert precision == "int8" or beams > 1 or actual == expected  # beams stop by another rule there
            for size in (1, 2):
                assert translate(theirs, TEXTS, num_beams=beams, max_batch_size=size) == actual


def test_ctranslate2_says_what_it_cannot_run(tmp_path: Path, tiny_run: Path) -> None:
    with pytest.raises(ModelError, match=r"not converted; see benchmarks.engines.conversion"):
        load("ctranslate2", tmp_path)
    with pytest.raises(ModelError, match="no precision bf16, choose fp32 or fp16 or int8"):
        load("ctranslate2", tiny_run, precision="bf16")


def test_a_prefix_goes_before_every_source(marian_folder: Path) -> None:
    plain = translate(load("transformers", marian_folder), ["w5 w8 w9"], num_beams=1)
    prefixed = load("transformers", marian_folder, source_prefix="w5 ")
    assert translate(prefixed, ["w8 w9"], num_beams=1) == plain


def test_parameters_leave_out_tied_copies_and_position_tables(marian_folder: Path) -> None:
    d, ffn, vocab = 32, 64, 52
    attention, norm = 4 * (d * d + d), 2 * d
    feed_forward = d * ffn + ffn + ffn * d + d
    layers = (attention + feed_forward + 2 * norm) + (2 * attention + feed_forward + 3 * norm)
    assert load("transformers", marian_folder).parameters == vocab * d + layers


@pytest.mark.parametrize(
    ("engine", "fields", "kind"),
    [
        ("transformers", {}, ModelError),
        ("torch", {}, ModelError),
        ("onnx", {}, BundleError),
        ("transformers", {"precision": "int8"}, ModelError),
        ("torch", {"precision": "int8"}, ModelError),
    ],
)
def test_what_is_no_model_is_one_line(engine: str, fields: dict, kind: type[CompressError], tmp_path: Path) -> None:
    with pytest.raises(kind) as caught:
        load(engine, tmp_path / "absent", **fields)
    assert "\n" not in str(caught.value)
