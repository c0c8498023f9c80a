"""The commands, each with a server of its own, for a second or two."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.measure.timing import growth
from benchmarks.serving.client import Address
from benchmarks.serving.dialects import Languages, messages
from benchmarks.serving.launch import Launched, launched, python_module
from benchmarks.serving.soak import mixed_requests
from compressor.errors import CompressError

PACED = "benchmarks.serving.paced"


@pytest.fixture(scope="module")
def paced() -> Iterator[Launched]:
    with launched(python_module(PACED, "--rate", "500")) as server:
        yield server
    assert server.stop() == 0


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.de"
    path.write_text("Ein Hund.\n\nZwei Männer gehen.\n", encoding="utf-8")
    return path


def body_of(message: bytes) -> Any:
    return json.loads(message.partition(b"\r\n\r\n")[2])


def test_requests_have_all_texts_in_turn() -> None:
    address = Address("h", 1)
    made = messages("native", address, ["a", "b", "c"], 2, languages=Languages("de", "en"))
    assert [body_of(message)["inputs"] for message in made] == [["a", "b"], ["c", "a"]]
    assert body_of(made[0]) == {"inputs": ["a", "b"], "source": "de", "target": "en"}
    (single,) = messages("libretranslate", address, ["ü"], languages=Languages("de", "en"))
    assert body_of(single) == {"q": "ü", "source": "de", "target": "en", "format": "text"}
    assert single.startswith(b"POST /translate HTTP/1.1\r\n")


def test_mixed_requests_are_mostly_small() -> None:
    made = mixed_requests("native", Address("h", 1), ["a b c"], Languages())
    counts = [len(body_of(message)["inputs"]) for message in made]
    assert (min(counts), max(counts)) == (1, 16)
    assert sorted(counts)[len(counts) // 2] <= 2
    assert made == mixed_requests("native", Address("h", 1), ["a b c"], Languages())


def test_growth_leaves_out_the_warm_up() -> None:
    assert growth([50, 100, *[100] * 17, 110]) == pytest.approx(2.1 / 2 - 1, abs=0.06)
    assert growth([7]) == 0


def test_load_measures_closed_and_open_loops(paced: Launched, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "serving.json"
    options = ["--clients", "1", "--shares", "0.5", "--rates", "20", "--seconds", "0.4", "--warmup", "0.1"]
    assert main(["load", paced.url, "--source", str(source), *options, "--json", str(out)]) == 0
    rows = json.loads(out.read_text())["load"]
    assert [row["concurrency"] for row in rows] == [1, None, None]
    assert sorted(row["offered_rps"] for row in rows[1:]) == [row["offered_rps"] for row in rows[1:]]
    assert all(row["errors"] == {} and row["p50_ms"] > 0 for row in rows)
    assert all(set(row["cpu_seconds"]) == {"client", "server_event_loop", "server_other_threads"} for row in rows)


def test_a_server_that_does_not_answer_in_the_dialect_is_refused(
    paced: Launched, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    languages = ["--dialect", "libretranslate", "--languages", "de", "zz"]
    assert main(["load", paced.url, "--source", str(source), *languages]) != 0
    assert "libretranslate dialect" in capsys.readouterr().err


def test_a_soak_samples_memory_threads_and_descriptors(paced: Launched, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "serving.json"
    command = ["soak", paced.url, "--source", str(source), "--minutes", "0.01", "--clients", "2", "--json", str(out)]
    assert main(command) == 0
    soak = json.loads(out.read_text())["soak"]
    assert soak["minutes"] == 0.01 and soak["errors"] == {}
    assert len(soak["rss_mb"]) == len(soak["threads"]) == len(soak["fds"]) >= 2
    assert min(soak["threads"]) >= 1 and min(soak["fds"]) > 3


def test_overload_has_four_parts(tmp_path: Path) -> None:
    out = tmp_path / "serving.json"
    options = ["--capacity", "100", "--times", "4", "--seconds", "0.5", "--queue-items", "64", "--json", str(out)]
    assert main(["overload", *options]) == 0
    result = json.loads(out.read_text())["overload"]
    assert result["admitted"]["requests"] > 0 and result["refused"]["requests"] > 0
    assert (result["errors"], result["after"]["errors"]) == ({}, {})
    assert result["offered_rps"] == 400


def test_a_server_that_does_not_start_is_an_error_with_its_last_line() -> None:
    with (
        pytest.raises(CompressError, match=r"json\.tool did not start: .*arguments: --nothing"),
        launched(python_module("json.tool", "--nothing")),
    ):
        pass


@pytest.mark.slow
def test_servers_are_measured_beside_the_runtime(
    tiny_bundle: Path, tiny_run: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "serving.json"
    options = ["--bundle", f"student={tiny_bundle}", "--peer", f"student={tiny_run}", "--threads", "1"]
    options += ["--source", str(tiny_corpus / "train.de"), "--texts", "64", "--clients", "1", "4"]
    options += ["--seconds", "0.5", "--warmup", "0.2", "--repeats", "1"]
    assert main(["servers", *options, "--json", str(out)]) == 0
    table = json.loads(out.read_text())
    assert set(table["runtime_sentences_per_s"]["student"]) == {"batch_1", "batch_32"}
    assert {row["server"] for row in table["load"]} == {"compress", "fastapi-ctranslate2"}
    assert {row["texts_per_request"] for row in table["load"]} == {1, 16}
    assert all(row["errors"] == {} for row in table["load"] if row["concurrency"])
    assert table["overhead_ms"]["student"].keys() == {"compress", "bare uvicorn"}
