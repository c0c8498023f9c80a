"""The records of a run folder: older runs are read, damage is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from compressor.errors import ModelError
from compressor.run_folder import RunRecord, is_finished, read_model, read_recipe, read_record, write_records

OLDER = Path(__file__).parent / "older_run"
"""Of version 0.1; its weights are left out."""


def test_older_run_is_read() -> None:
    record, recipe = read_record(OLDER), read_recipe(OLDER)
    assert is_finished(OLDER) and record.dev is not None and record.data is not None and recipe is not None
    assert (record.task, record.method, record.parameters, record.best_update) == (
        "translation", "imitkd", 4152336, 8000,
    )  # fmt: skip
    assert record.dev.bleu == 37.67489792147656 and record.data.mono[0].name == "multi30k/mono.de"
    assert record.data.report.remaining == json.loads((OLDER / "run.json").read_text())["data"]["report"]["kept"]
    assert recipe.method.name == record.method and read_model(OLDER).model.d_model == 256


def test_records_are_written_byte_for_byte_as_older_runs_have_them(tmp_path: Path) -> None:
    write_records(tmp_path, read_model(OLDER), read_record(OLDER))
    old = (OLDER / "run.json").read_bytes()
    assert json.loads((tmp_path / "run.json").read_bytes()) == json.loads(old)
    assert (tmp_path / "run.json").read_bytes() == old


@pytest.mark.parametrize(
    ("file", "field", "value", "message"),
    [
        ("run.json", "oops", 1, r"run\.json: damaged \(oops: Extra inputs"),
        ("run.json", "updates", "many", r"run\.json: damaged \(updates: Input should be a valid integer"),
        ("run.json", "data", {}, r"data\.dev: Field required; data\.train: Field required"),
        ("model.json", "oops", 1, r"model\.json: damaged \(oops: Extra inputs"),
    ],
)
def test_wrong_fields_are_named(tmp_path: Path, file: str, field: str, value: object, message: str) -> None:
    for name in ("run.json", "model.json"):
        shutil.copy(OLDER / name, tmp_path)
    (tmp_path / file).write_text(json.dumps(json.loads((OLDER / file).read_text()) | {field: value}))
    with pytest.raises(ModelError, match=message):
        read_model(tmp_path), read_record(tmp_path)


def test_run_without_record_has_an_empty_one(tmp_path: Path) -> None:
    assert read_record(tmp_path) == RunRecord() and not is_finished(tmp_path)
