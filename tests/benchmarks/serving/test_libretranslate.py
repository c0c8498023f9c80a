"""The package that LibreTranslate gets: its translations, as Argos makes them, are the model's."""

from __future__ import annotations

import json
from pathlib import Path

import ctranslate2
import pytest
import sentencepiece

from benchmarks.serving.libretranslate import write_package
from compressor.decoding.search import greedy, pad_sources
from compressor.errors import ModelError
from compressor.models.weights import load_run


@pytest.mark.slow
def test_a_package_translates_as_the_model(tiny_run: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    package = write_package(tiny_run, tmp_path / "package", "fp32", "de", "en")
    metadata = json.loads((package / "metadata.json").read_text())
    assert (metadata["from_code"], metadata["to_code"], metadata["type"]) == ("de", "en", "translate")
    sources = (tiny_corpus / "dev.de").read_text(encoding="utf-8").splitlines()
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(package / "sentencepiece.model"))
    translator = ctranslate2.Translator(str(package / "model"))
    results = translator.translate_batch([pieces.encode(text, out_type=str) for text in sources], beam_size=1)
    run = load_run(tiny_run)
    batch = pad_sources([run.tokenizer.encode_source(text) for text in sources], run.generation.pad_id)
    outputs = greedy(run.model, run.generation, *batch)
    whole = [row for row, tokens in enumerate(outputs) if len(tokens) < run.generation.max_new_tokens]
    assert len(whole) > 20
    for row in whole:
        assert pieces.decode_pieces(results[row].hypotheses[0]) == run.tokenizer.decode(outputs[row])


def test_a_checkpoint_with_two_tokenizers_is_refused(tmp_path: Path) -> None:
    for name in ("source.spm", "target.spm"):
        (tmp_path / name).write_bytes(name.encode())
    with pytest.raises(ModelError, match="one SentencePiece model for both sides"):
        write_package(tmp_path, tmp_path / "package", "int8", "de", "en")
    assert not (tmp_path / "package").exists()
