"""The Python API: what the commands do, a function call each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sacrebleu

import compressor
from compressor import errors
from compressor.config import Recipe, load_recipe


def test_distil_export_load(tiny_recipe: Path, tiny_run: Path, tmp_path: Path) -> None:
    recipe = load_recipe(tiny_recipe, [f"teacher.path={tiny_run}", "method.name=imitkd", "training.updates=6"])
    run = compressor.distill(recipe, tmp_path / "run", progress=False)
    bundle = compressor.export(run, tmp_path / "bundle", precisions=("fp32",))
    results = compressor.load(bundle).generate(["Der Hund sieht den Baum.", ""], max_new_tokens=5)
    assert len(results) == 2 and results[0].output_tokens <= 5 and results[1].text == ""


def test_overrides_need_a_path_or_are_refused_with_a_recipe(tiny_recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match="overrides"):
        compressor.train(load_recipe(tiny_recipe), tmp_path / "run", overrides=["training.updates=1"])


def test_load_checks_the_digest(tiny_bundle: Path) -> None:
    with pytest.raises(errors.BundleError, match="digest"):
        compressor.load(tiny_bundle, expect_digest="0" * 64)


def test_load_needs_no_torch(tiny_bundle: Path) -> None:
    code = f"""
import sys, compressor
print(compressor.load({str(tiny_bundle)!r}).generate(["Der Hund sieht den Baum."])[0].finish_reason)
print([name for name in ("torch", "transformers", "onnx", "datasets") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["eos", "[]"], done.stderr


def test_evaluate_scores_a_bundle_as_sacrebleu_does(tiny_bundle: Path, tiny_corpus: Path) -> None:
    source, reference = tiny_corpus / "dev.de", tiny_corpus / "dev.en"
    done = compressor.evaluate(tiny_bundle, source=str(source), reference=reference, precision="fp32")
    texts = source.read_text("utf-8").splitlines()
    assert done.hypotheses == [result.text for result in compressor.load(tiny_bundle, precision="fp32").generate(texts)]
    expected = sacrebleu.corpus_bleu(done.hypotheses, [reference.read_text("utf-8").splitlines()]).score
    assert done.scores["bleu"] == pytest.approx(expected, abs=1e-3)


def test_evaluate_takes_the_options_of_checkpoints_for_checkpoints_alone(tiny_bundle: Path, tiny_corpus: Path) -> None:
    files = {"source": tiny_corpus / "dev.de", "reference": tiny_corpus / "dev.en"}
    with pytest.raises(errors.ConfigError, match="source_prefix: for Hugging Face checkpoints alone"):
        compressor.evaluate(tiny_bundle, **files, source_prefix="summarize: ")


def test_bench_measures_a_bundle(tiny_bundle: Path, tiny_corpus: Path) -> None:
    files = {"source": tiny_corpus / "dev.de", "reference": str(tiny_corpus / "dev.en")}
    limits = {"batch_sizes": (2,), "sentences": 2, "repeats": 1, "warmup": 0, "max_new_tokens": 3}
    table = compressor.bench(tiny_bundle, precisions=("fp32",), progress=False, **files, **limits)
    assert [(row["precision"], row["batch_size"]) for row in table["rows"]] == [("fp32", 2)]
    with pytest.raises(errors.ConfigError, match="batch_size"):
        compressor.bench(tiny_bundle, **files, batch_size=2)


def test_only_the_api_is_public() -> None:
    assert compressor.__all__ == ["Recipe", "__version__", "bench", "distill", "evaluate", "export", "load", "train"]
    assert compressor.Recipe is Recipe
    assert all(getattr(compressor, name).__doc__ for name in compressor.__all__ if name != "__version__")
