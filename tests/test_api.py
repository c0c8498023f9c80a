"""The Python API: what the commands do, a function call each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import compressor
from compressor import errors
from compressor.config import load_recipe


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


def test_only_the_api_is_public() -> None:
    assert compressor.__all__ == ["__version__", "distill", "export", "load", "train"]
    assert all(getattr(compressor, name).__doc__ for name in compressor.__all__ if name != "__version__")
