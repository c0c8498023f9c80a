"""Run folders: what is written comes back, and what is damaged is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from compressor.errors import ModelError
from compressor.models.weights import load_run, save_run


def test_saved_run_loads_unchanged(tiny_run: Path, tmp_path: Path) -> None:
    run = load_run(tiny_run)
    save_run(tmp_path / "copy", run)
    again = load_run(tmp_path / "copy")
    assert again.generation == run.generation
    assert again.recipe == run.recipe
    assert again.record == run.record
    assert again.tokenizer.vocab == run.tokenizer.vocab
    for name, value in run.model.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(again.model.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("model.safetensors", lambda data: data[: len(data) // 2], "damaged or truncated"),
        ("model.safetensors", None, "missing"),
        ("model.json", lambda data: data.replace(b'"d_model": 32', b'"d_model": 16'), "does not fit"),
        ("model.json", lambda data: data[:-9], "damaged"),
        ("model.json", None, "not a run folder"),
        ("run.json", lambda data: b"{", "damaged"),
        ("tokenizer/sentencepiece.model", lambda data: data[:50], "not a SentencePiece model"),
        ("tokenizer/sentencepiece.model", None, "no tokenizer here"),
    ],
)  # fmt: skip
def test_damaged_run_files_are_named(tiny_run: Path, tmp_path: Path, file: str, damage, message: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    if damage is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(damage((folder / file).read_bytes()))
    with pytest.raises(ModelError, match=message) as caught:
        load_run(folder)
    assert "\n" not in str(caught.value)
