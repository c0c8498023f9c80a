"""The registry finds the engines' folders, and nothing else names an engine."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.engines.registry import BASELINE, ENGINES, OWN, PEERS, RIVAL, engine_for

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


def test_every_engine_folder_has_a_descriptor_and_an_engine() -> None:
    folders = {path.parent.name for path in BENCHMARKS.glob("engines/*/descriptor.py")}
    assert set(ENGINES) == folders == {path.parent.name for path in BENCHMARKS.glob("engines/*/engine.py")}
    assert {"ctranslate2", "marian", "openvino", "optimum", "transformers"} == set(PEERS)
    assert (OWN.name, RIVAL.name, BASELINE.name) == ("onnx", "ctranslate2", "transformers")
    assert engine_for("run").name == "torch"


def test_no_module_outside_an_engines_folder_names_an_engine() -> None:
    quoted = re.compile("|".join(f"[\"']{name}[\"']" for name in ENGINES))
    modules = [path for path in BENCHMARKS.rglob("*.py") if path.parent.parent.name != "engines"]
    other_meanings = re.compile(r'measured_on\(.*|format="\w+"')  # versions of libraries, formats of export
    assert [path.name for path in modules if quoted.search(other_meanings.sub("", path.read_text()))] == []
