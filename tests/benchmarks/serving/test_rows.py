"""Rows and the result file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.reports import docs, serving
from benchmarks.serving.loops import Outcome, Window
from benchmarks.serving.processes import ProcessUsage
from benchmarks.serving.rows import EMPTY, cpu_seconds, load_row, read_result, saturation, write_result
from compressor.errors import DataError

LATENCIES = [0.010, 0.020, 0.040, 0.080]
SCHEMA = {
    "server", "model", "batching", "texts_per_request", "concurrency", "offered_rps", "achieved_rps", "sentences_per_s",
    "p50_ms", "p90_ms", "p99_ms", "errors", "cpu_seconds", "seconds",
}  # fmt: skip


def row(**fields: Any) -> dict[str, Any]:
    outcomes = [Outcome(-1.0, 0.5, "200"), *(Outcome(0.0, seconds, "200") for seconds in LATENCIES)]
    outcomes += [
        Outcome(1.0, 1.1, "429"),
        Outcome(1.0, 1.2, "429"),
        Outcome(1.0, 9.0, "timeout"),
        Outcome(1.9, 2.5, "200"),
    ]
    values: dict[str, Any] = {
        "server": "compress", "model": "student", "batching": True, "texts_per_request": 16, "concurrency": 4,
        "offered_rps": None, "cpu_seconds": {"client": 0.1, "server_event_loop": 0.5, "server_other_threads": 1.5},
    }  # fmt: skip
    return load_row(Window.of(0.0, 2.0, outcomes), **(values | fields))


def test_a_row_counts_what_was_answered_in_its_window() -> None:
    made = row()
    assert set(made) == SCHEMA
    assert (made["achieved_rps"], made["sentences_per_s"]) == (5 / 2, 16 * 5 / 2), "with that of the warm-up"
    assert made["errors"] == {"429": 2, "timeout": 1}
    all_answered = np.array([*LATENCIES, 0.6]) * 1e3
    assert [made[f"p{q}_ms"] for q in (50, 90, 99)] == pytest.approx(
        np.percentile(all_answered, [50, 90, 99]), abs=0.01
    )


def test_saturation_is_the_best_closed_loop() -> None:
    rows = [{"offered_rps": None, "achieved_rps": rate} for rate in (3.0, 7.0)]
    assert saturation([*rows, {"offered_rps": 99.0, "achieved_rps": 9.0}]) == 7.0
    assert saturation([]) == 0.0


def test_processor_seconds_are_differences() -> None:
    before, after = ProcessUsage(1.0, 2.0, 0, 0, 0), ProcessUsage(1.5, 4.0, 0, 0, 0)
    used = {"client": 0.25, "server_event_loop": 0.5, "server_other_threads": 2.0}
    assert cpu_seconds(before, after, 0.25) == used
    assert cpu_seconds(None, None, 0.25) == {"client": 0.25}


def test_parts_of_a_result_file_are_replaced_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "serving.json"
    write_result(path, "load", [row(), row(server="fastapi-ctranslate2")], {"seconds": 2.0})
    write_result(path, "runtime_sentences_per_s", {"student": {"batch_32": 64.0}}, {})
    write_result(path, "runtime_sentences_per_s", {"teacher": {"batch_32": 8.0}}, {})
    write_result(path, "load", [row(concurrency=1), row(concurrency=32)], {"seconds": 3.0})
    table = read_result(path)
    assert set(table) == {"provenance", *EMPTY}
    assert [(one["server"], one["concurrency"]) for one in table["load"]] == [
        ("fastapi-ctranslate2", 4), ("compress", 1), ("compress", 32),
    ]  # fmt: skip
    assert set(table["runtime_sentences_per_s"]) == {"student", "teacher"}
    assert table["provenance"]["load"]["settings"] == {"seconds": 3.0}


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    for text in ("{", "[]", '{"rows": []}'):
        path.write_text(text)
        with pytest.raises(DataError, match=r"other\.json"):
            read_result(path)


def test_a_result_is_shown_as_a_table_and_as_a_plot(tmp_path: Path) -> None:
    path = tmp_path / "serving.json"
    write_result(path, "runtime_sentences_per_s", {"student": {"batch_32": 64.0}}, {})
    open_rows = [row(concurrency=None, offered_rps=rate) for rate in (2.0, 1.0)]
    write_result(path, "load", [row(), *open_rows], {})
    lines = serving.markdown(read_result(path)).splitlines()
    heads, cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], lines[2]))
    shown = dict(zip(heads, cells, strict=True))
    assert (shown["sentences/s"], shown["of the runtime"], shown["errors"]) == ("40.0", "62%", "3")
    used = [shown[f"{name} ms a text"] for name in ("event loop", "other threads")]
    assert used == ["6.25", "18.75"]  # 0.5 and 1.5 s of the server's, 80 texts
    assert lines[3] == "", "open loops are in the plot"
    docs.run(docs_options(path, plot=tmp_path / "plot.svg"))
    assert "<svg" in (tmp_path / "plot.svg").read_text()


def test_single_figures_follow_the_table(tmp_path: Path) -> None:
    path, ours = tmp_path / "serving.json", {"server": "compress", "texts_per_request": 1}
    write_result(path, "runtime_sentences_per_s", {"student": {"batch_1": 5.0, "batch_32": 20.0}}, {})
    write_result(path, "overhead_ms", {"student": {"compress": 0.8, "bare uvicorn": 0.6}}, {})
    alone = row(**ours, concurrency=1) | {"sentences_per_s": 4.0, "achieved_rps": 4.0, "p50_ms": 10.0}
    many = row(**ours, concurrency=32) | {"sentences_per_s": 12.0, "achieved_rps": 12.0}
    half, whole = (row(**ours, concurrency=None, offered_rps=rate) | {"p99_ms": 35.0} for rate in (6.0, 12.0))
    write_result(path, "load", [alone, many, half, whole | {"p99_ms": 99.0}], {})
    latency = {"p50_ms": 1.0, "p99_ms": 4.0}
    parts = dict.fromkeys(("idle", "admitted", "refused", "after"), latency)
    write_result(path, "overload", {"capacity_rps": 50.0, "offered_rps": 500.0, "seconds": 60.0, **parts}, {})
    flat, grown = [100.0] * 40, [100.0] * 30 + [110.0] * 10
    soak = {"minutes": 30.0, "requests": 1234, "rss_mb": grown, "threads": flat, "fds": flat}
    write_result(path, "soak", soak, {})
    lines = serving.markdown(read_result(path)).split("| figure")[1].splitlines()[2:]
    assert [line.strip("|").split("|")[-1].strip() for line in lines] == [
        "0.80 ms", "0.60 ms", "3.00 times, 75%", "3.5", "4 ms", "4.0 ms", "1.0 and 1.0 ms", "+10.0%, +0.0%, +0.0%",
    ]  # fmt: skip


def docs_options(path: Path, plot: Path) -> Any:
    parser = argparse.ArgumentParser()
    docs.add_arguments(parser)
    return parser.parse_args([str(path), "--plot", str(plot)])
