"""The pipe: the same answers as in this process, errors of the same class, and no process left behind."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest

from benchmarks.engines.base import EngineSpec
from benchmarks.engines.process import LocalHost, ProcessHost, serve
from compressor.errors import BundleError, CompressError


def spec(path: Path, precision: str = "fp32") -> EngineSpec:
    return EngineSpec(engine="onnx", model="student", path=str(path), precision=precision)


def test_a_process_answers_as_this_one_does(tiny_bundle: Path) -> None:
    texts = ["Der Hund sieht den Baum.", "Der Arzt sucht den Tisch."]
    host, local = ProcessHost(spec(tiny_bundle), 1), LocalHost(spec(tiny_bundle), 1)
    try:
        assert host.info._replace(load_s=0.0) == local.info._replace(load_s=0.0)
        far, near = host.translate(texts, 1), local.translate(texts, 1)
        assert (far.texts, far.tokens) == (near.texts, near.tokens)
        assert far.seconds > 0
        host.reset_peak()
        host.translate(texts, 1)
        if sys.platform == "linux":
            assert 0 < host.memory_mb() < 500
        with pytest.raises(CompressError, match="num_beams is 500"):
            host.translate(texts, 500)
        assert host.translate(texts, 1).texts == near.texts  # an error ends nothing
    finally:
        host.close()
    assert host._process.returncode is not None


def test_an_error_while_loading_comes_through_as_itself(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such bundle"):
        ProcessHost(spec(tmp_path / "absent"), 1)


def test_a_process_that_dies_is_reported(tiny_bundle: Path) -> None:
    host = ProcessHost(spec(tiny_bundle), 1)
    try:
        os.kill(host._process.pid, 9)
        with pytest.raises(CompressError, match=r"student onnx fp32 stopped: .*exit code -9"):
            host.translate(["a"], 1)
    finally:
        host.close()


def test_requests_before_loading_and_foreign_errors_are_answers() -> None:
    bad = {"request": "load", "spec": {"engine": "onnx"}, "threads": 1}
    lines = [json.dumps(line) for line in ({"request": "memory_mb"}, bad)]
    answers = io.StringIO()
    serve(iter(lines), answers)  # type: ignore[arg-type]
    first, second = (json.loads(line) for line in answers.getvalue().splitlines())
    assert first == {"error": "CompressError", "message": "nothing is loaded yet"}
    assert second["error"] == "ValidationError"
