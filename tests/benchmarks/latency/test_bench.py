"""The table: who is measured, in which order, and every number by hand (engines pretend, so all times are known)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.engines.registry import check_peers
from benchmarks.engines.torch.device import torch_device
from benchmarks.latency.bench import SPEEDUP_CELL, run
from benchmarks.latency.config import BenchConfig
from benchmarks.latency.contenders import contenders, resolve
from benchmarks.latency.grid import ROW_KEYS, batches, spread, with_speedup
from compressor.errors import (
    BundleError,
    ConfigError,
    DataError,
    DependencyError,
)

ISSUE_KEYS = [
    *("engine", "model", "precision", "batch_size", "num_beams", "intra_threads", "p50_ms", "p90_ms", "p99_ms"),
    *("sentences_per_s", "tokens_per_s", "memory_mb", "size_mb", "parameters", "bleu", "chrf", "rouge_l"),
    *("signature", "length_stops", "repetition_stops", "cut_sources", "speedup"),
]

TestSet = Callable[[int], tuple[Path, Path]]


def measure(stage: Any, bundle: Path, test_set: TestSet, tmp_path: Path, **options: object) -> dict[str, Any]:
    source, reference = test_set(12)
    fields = {"bundles": (bundle,), "teacher": "some/teacher", "source": source, "reference": reference, "sentences": 8}
    config = BenchConfig(**(fields | {"batch_sizes": (1, 4), "repeats": 2, "warmup": 0} | options))
    return run(config, connect=stage.connect, progress=False)


def test_every_row_has_every_key_of_the_format(
    stage: Any, manifest_only: Path, test_set: TestSet, tmp_path: Path
) -> None:
    table = measure(stage, manifest_only, test_set, tmp_path)
    assert list(table) == ["provenance", "rows"]
    assert list(ROW_KEYS) == ISSUE_KEYS
    assert all(list(row) == ISSUE_KEYS for row in table["rows"])
    cells = [(row["engine"], row["precision"], row["batch_size"]) for row in table["rows"]]
    contenders = [("transformers", "fp32"), ("onnx", "fp32"), ("onnx", "int8")]
    assert cells == [(engine, precision, size) for size in (1, 4) for engine, precision in contenders]


def test_numbers_by_hand(stage: Any, manifest_only: Path, test_set: TestSet, tmp_path: Path) -> None:
    row = measure(stage, manifest_only, test_set, tmp_path)["rows"][-1]
    assert (row["engine"], row["precision"], row["batch_size"], row["intra_threads"]) == ("onnx", "int8", 4, 1)
    assert row["p50_ms"] == row["p99_ms"] == 16.0  # 4 sentences of 4 ms
    assert row["sentences_per_s"] == 250.0
    assert row["tokens_per_s"] == 2000.0  # 8 tokens a sentence, as the fp32 engine wrote, though int8 wrote 9
    assert row["speedup"] == 25.0  # 400 ms / 16 ms
    assert (row["memory_mb"], row["size_mb"], row["parameters"]) == (12.3, 2.5, 11)
    assert (row["bleu"], row["chrf"], row["rouge_l"]) == (100.0, 100.0, None)
    assert "tok:13a" in row["signature"]


def test_engines_take_turns(stage: Any, manifest_only: Path, test_set: TestSet, tmp_path: Path) -> None:
    measure(stage, manifest_only, test_set, tmp_path, quality=False)
    names = ["teacher transformers fp32", "student onnx fp32", "student onnx int8"]
    assert stage.log == [(name, 1, 1) for _ in range(2) for name in names for _ in range(8)] + [
        (name, 4, 1) for _ in range(2) for name in names for _ in range(2)
    ]
    assert all(host.closed for host in stage.hosts)


def test_quality_is_measured_once_for_engine_and_beams(
    stage: Any, manifest_only: Path, test_set: TestSet, tmp_path: Path
) -> None:
    options = {"threads": (1, 2), "num_beams": (1, 5), "quality_batch_size": 12}
    measure(stage, manifest_only, test_set, tmp_path, **options)
    whole = [(name, beams) for name, texts, beams in stage.log if texts == 12]
    assert sorted(whole) == [
        ("student onnx fp32", 1),
        ("student onnx int8", 1),
        ("teacher transformers fp32", 1),
        ("teacher transformers fp32", 5),
    ]
    assert stage.threads == [1, 1, 1, 2, 2, 2]


def test_an_engine_without_beam_search_has_no_such_rows(
    stage: Any, manifest_only: Path, test_set: TestSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = measure(stage, manifest_only, test_set, tmp_path, num_beams=(1, 5), batch_sizes=(1,))["rows"]
    speedups = [(row["engine"], row["num_beams"], row["speedup"]) for row in rows]
    assert speedups == [("transformers", 1, 1.0), ("onnx", 1, 10.0), ("onnx", 1, 25.0), ("transformers", 5, 1.0)]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("does not search with 5 beams") == 2


def test_without_a_teacher_or_scores_null_stands_there(
    stage: Any, manifest_only: Path, test_set: TestSet, tmp_path: Path
) -> None:
    row = measure(stage, manifest_only, test_set, tmp_path, teacher=None, quality=False)["rows"][0]
    assert [row[key] for key in ("bleu", "chrf", "rouge_l", "signature", "speedup")] == [None] * 5


def test_summaries_have_rouge(stage: Any, manifest_only: Path, test_set: TestSet, tmp_path: Path) -> None:
    row = measure(stage, manifest_only, test_set, tmp_path, task="summarization")["rows"][0]
    assert (row["bleu"], row["chrf"], row["rouge_l"]) == (None, None, 100.0)
    assert row["signature"].startswith("ROUGE")


def test_speedup_wants_equal_batch_beams_and_threads() -> None:
    def row(
        model: str, engine: str, batch: int, beams: int, threads: int, p50: float, precision: str = "fp32"
    ) -> dict[str, Any]:
        cell = {"batch_size": batch, "num_beams": beams, "intra_threads": threads}
        return {"model": model, "engine": engine, "precision": precision, "p50_ms": p50, **cell}

    rows = [
        row("teacher", "transformers", 1, 1, 1, 90.0),
        row("teacher", "transformers", 1, 1, 1, 45.0, "bf16"),
        row("teacher", "torch", 8, 1, 1, 1.0),
        row("student", "onnx", 1, 1, 1, 4.0, "int8"),
        row("student", "onnx", 8, 1, 1, 4.0, "int8"),
        row("student", "onnx", 1, 5, 1, 4.0, "int8"),
        row("student", "onnx", 1, 1, 2, 4.0, "int8"),
    ]
    assert [row["speedup"] for row in with_speedup(rows, "teacher", SPEEDUP_CELL)] == [
        1.0,
        2.0,
        None,
        22.5,
        None,
        None,
        None,
    ]


def test_a_failing_engine_leaves_none_behind(
    stage: Any, manifest_only: Path, test_set: TestSet, tmp_path: Path
) -> None:
    def connect(spec, threads):
        if spec.precision == "int8":
            raise BundleError("altered")
        return stage.connect(spec, threads)

    source, reference = test_set(3)
    config = BenchConfig(bundles=(manifest_only,), teacher="x", source=source, reference=reference)
    with pytest.raises(BundleError, match="altered"):
        run(config, connect=connect)
    assert [host.closed for host in stage.hosts] == [True, True]


def test_timed_sentences_are_spread_and_not_blank() -> None:
    texts = [str(i) if i % 10 else " " for i in range(100)]
    chosen = spread(texts, 9)
    assert chosen == ["1", "12", "23", "34", "45", "56", "67", "78", "89"]
    assert spread(["a", "", "b"], 50) == ["a", "b"]


def test_batches_are_full() -> None:
    assert batches(list("abcdefg"), 3) == [["a", "b", "c"], ["d", "e", "f"]]
    assert batches(["a", "b"], 5) == [["a", "b", "a", "b", "a"]]


def test_the_students_files_answer_what_is_not_said(stage: Any, manifest_only: Path, test_set: TestSet) -> None:
    source, _ = test_set(2)
    config = resolve(BenchConfig(bundles=(manifest_only,), teacher="hub/name", source=source))
    assert (config.task, config.max_new_tokens) == ("translation", 16)  # min of default 20 and bundle's limit 16
    specs = contenders(config)
    assert [spec.name for spec in specs] == [name for name in stage.cast if "torch" not in name]
    assert {spec.max_new_tokens for spec in specs} == {16}
    assert resolve(BenchConfig(bundles=(manifest_only,), source=source, max_new_tokens=3)).max_new_tokens == 3


def test_a_peer_runs_the_weights_of_teacher_and_run(manifest_only: Path, test_set: TestSet, tmp_path: Path) -> None:
    source, _ = test_set(2)
    config = BenchConfig(teacher="hub/name", runs=(tmp_path,), source=source, peers=("ctranslate2",), max_new_tokens=7)
    specs = [(spec.model, spec.precision, spec.path) for spec in contenders(config) if spec.engine == "ctranslate2"]
    assert specs == [
        *(("teacher", precision, "hub/name") for precision in ("fp32", "int8")),
        *(("student", precision, str(tmp_path)) for precision in ("fp32", "int8")),
    ]
    assert check_peers(["ctranslate2"]) == ("ctranslate2",)
    with pytest.raises(ConfigError, match="peers: give teacher or run"):
        contenders(BenchConfig(bundles=(manifest_only,), source=source, peers=("ctranslate2",)))
    with pytest.raises(
        ConfigError, match="peers: fairseq: choose from ctranslate2, marian, openvino, optimum, transformers"
    ):
        check_peers(["ctranslate2", "fairseq"])
    both = config.model_copy(update={"peers": ("transformers",), "source_prefix": "de: "})
    teachers = [
        (spec.engine, spec.precision, spec.source_prefix) for spec in contenders(both) if spec.model == "teacher"
    ]
    assert teachers == [("transformers", "fp32", "de: "), ("transformers", "bf16", "de: ")]


def test_students_of_several_bundles_take_turns_under_labels_of_their_folders(
    manifest_only: Path, test_set: TestSet, tmp_path: Path, stage: Any
) -> None:
    folders = [tmp_path / name for name in ("a/transformer", "b/transformer", "b/ssru")]
    for folder in folders:
        shutil.copytree(manifest_only, folder)
    labels = ["a/transformer", "b/transformer", "b/ssru"]
    names = [f"{label} onnx {precision}" for label in labels for precision in ("fp32", "int8")]
    stage.cast = dict.fromkeys(names, (0.01, 8, 1))
    source, reference = test_set(8)
    config = BenchConfig(bundles=folders, source=source, reference=reference, batch_sizes=(4,), repeats=1, warmup=0)
    table = run(config, connect=stage.connect, progress=False)
    assert [f"{row['model']} {row['engine']} {row['precision']}" for row in table["rows"]] == names
    assert stage.log[: 2 * len(names)] == [(name, 4, 1) for name in names for _ in range(2)]
    assert table["provenance"]["bench"]["bundles"] == ["transformer", "transformer", "ssru"]
    assert [spec.model for spec in contenders(config.model_copy(update={"bundles": folders[1:]}))][::2] == [
        "transformer",
        "ssru",
    ]


def test_impossible_requests_are_refused(manifest_only: Path, test_set: TestSet, tmp_path: Path) -> None:
    source, reference = test_set(2)
    with pytest.raises(ConfigError, match="nothing to measure"):
        run(BenchConfig(source=source, reference=reference))
    with pytest.raises(ConfigError, match="no precision int4, it has fp32, int8"):
        run(BenchConfig(bundles=(manifest_only,), precisions=("int4",), source=source, reference=reference))
    with pytest.raises(BundleError, match="not a bundle"):
        run(BenchConfig(bundles=(tmp_path,), source=source, reference=reference))
    with pytest.raises(DataError, match="references"):
        run(BenchConfig(bundles=(manifest_only,), source=source))


def test_on_a_gpu_engines_that_can_take_part(
    manifest_only: Path, test_set: TestSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _ = test_set(2)
    config = BenchConfig(
        bundles=(manifest_only,), runs=(tmp_path,), source=source, device="cuda", peers=("ctranslate2", "transformers")
    )
    specs = contenders(config)
    assert {spec.device for spec in specs} == {"cuda"}
    assert [(spec.engine, spec.precision) for spec in specs] == [
        ("transformers", "fp32"),
        ("onnx", "fp32"),
        ("ctranslate2", "fp32"),
        ("ctranslate2", "fp16"),
        ("transformers", "fp16"),
    ]
    wrong = config.model_copy(update={"peers": ("ctranslate2", "marian", "openvino"), "precisions": ("fp32", "int8")})
    with pytest.raises(ConfigError, match="device cuda: marian, openvino, student onnx int8: for processors"):
        contenders(wrong)
    with pytest.raises(DependencyError, match="no CUDAExecutionProvider"):
        run(config.model_copy(update={"runs": (), "peers": ()}), progress=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DependencyError, match="device cuda: PyTorch found no GPU"):
        torch_device("cuda")
    assert torch_device("cpu") == torch.device("cpu")
