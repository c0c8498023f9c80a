"""Labels that a Ray cluster writes, on a cluster of this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pyarrow as pa
import pytest
from rich.console import Console

from compressor.config import Recipe, parse_recipe
from compressor.distillation import labels, ray_labels
from compressor.distillation.label_run import label_corpus
from compressor.distillation.label_store import LabelStore
from compressor.distillation.labels import LabelContent
from compressor.distillation.ray_labels import ShardWorker, write_labels_on_ray
from compressor.distillation.setup import set_up
from compressor.errors import ConfigError, DependencyError
from compressor.exporters.label_engine import ExportedTeacher

Make = Callable[..., Recipe]


@pytest.fixture
def recipe(make_recipe: Make, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setattr(labels, "SHARD_SOURCES", 8)
    values = make_recipe("seqkd").model_dump()
    values["data"]["train"][0]["size"] = 30
    return parse_recipe(values)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Ray's own
@pytest.mark.parametrize(
    ("wanted", "engine"),
    [({"num_hypotheses": 3}, "torch"), ({"num_hypotheses": 3}, "onnx"), ({"on_references": True}, "torch")],
)
def test_a_cluster_writes_the_shards_that_one_process_does(
    recipe: Recipe, tmp_path: Path, wanted: dict[str, Any], engine: str, trace_once: Callable[..., None]
) -> None:
    pytest.importorskip("ray.data", reason="needs Ray: pip install '.[ray]'")
    assert recipe.teacher is not None
    recipe = recipe.model_copy(update={"teacher": recipe.teacher.model_copy(update={"label_engine": engine})})
    options = {**wanted, "top_k": 4, "progress": False, "label_engine": ExportedTeacher}
    expected = label_corpus(recipe, tmp_path / "local", **options)
    partly = tmp_path / "ray"
    label_corpus(recipe, partly, **options)
    for number in (1, 3):
        (partly / f"shard-0000{number}.json").unlink()
    (partly / "shard-00003.safetensors").unlink()
    before = (partly / "shard-00000.json").stat().st_mtime_ns
    label_corpus(recipe, partly, engine="ray", **options)
    assert (partly / "shard-00000.json").stat().st_mtime_ns == before
    for number in range(4):
        name = f"shard-0000{number}.safetensors"
        assert (partly / name).read_bytes() == (tmp_path / "local" / name).read_bytes()
    assert LabelStore.open(partly).record == expected.record
    written = [json.loads((partly / f"shard-0000{number}.json").read_text()) for number in range(4)]
    assert [shard["engine"] for shard in written] == [engine] * 4
    assert not (partly / "label_engine").exists()


def test_a_worker_with_another_teacher_says_so(recipe: Recipe, tmp_path: Path) -> None:
    record = label_corpus(recipe, tmp_path / "store", progress=False).record
    table = pa.Table.from_pylist([{"shard": 2, "sources": [[5, 6, 2], [7, 2]], "references": None}])
    other = record.model_copy(update={"teacher": record.teacher.model_copy(update={"sha256": "0" * 64})})
    tokenizer, tokens = LabelStore.open(tmp_path / "store").teacher().tokenizer, [5, 6, 7]
    (row,) = ShardWorker(recipe, other, tokenizer, tokens)(table).to_pylist()
    assert (
        row["shard"] == 2 and "a worker of the cluster has another teacher (teacher: the labels are of" in row["error"]
    )
    (row,) = ShardWorker(recipe, record, tokenizer, tokens)(table).to_pylist()
    assert not row["error"] and len(row["content"]) > 0 and row["seconds"] > 0


def test_what_a_cluster_cannot_do_is_refused(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = set_up(recipe)
    assert recipe.teacher is not None
    teacher = recipe.teacher.model_copy(update={"label_engine": "onnx"})
    with monkeypatch.context() as patch:
        patch.setattr(setup, "recipe", recipe.model_copy(update={"teacher": teacher}))
        patch.setattr(ray_labels, "_ray", lambda: MagicMock(cluster_resources=lambda: {"CPU": 8.0, "GPU": 1.0}))
        with pytest.raises(ConfigError, match="onnx is for processors, and the cluster has GPUs: PyTorch writes there"):
            write_labels_on_ray(setup, tmp_path / "store", Console(quiet=True), LabelContent())
    for module in ("ray", "ray.data"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DependencyError, match=r"Ray Data is not installed.*\[ray\]"):
        write_labels_on_ray(setup, tmp_path / "store", Console(quiet=True), LabelContent())
    assert not (tmp_path / "store").exists()
