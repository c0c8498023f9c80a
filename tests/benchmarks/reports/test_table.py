"""Tables built from JSON, by construction; a page that asks for nothing from elsewhere."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.__main__ import main
from benchmarks.latency.grid import ROW_KEYS
from benchmarks.measure import result_file
from benchmarks.reports import table as report
from compressor.errors import DataError, StorageError


def row(**given: Any) -> dict[str, Any]:
    return dict.fromkeys(ROW_KEYS) | given


@pytest.fixture
def table() -> dict[str, Any]:
    shared = {"num_beams": 1, "intra_threads": 1, "chrf": 60.25, "signature": "BLEU|tok:13a"}
    numbers = {"p50_ms": 100.04, "p90_ms": 120.0, "p99_ms": 130.0, "sentences_per_s": 9.96, "tokens_per_s": 99.6,
               "memory_mb": 181.6, "size_mb": 27.29, "parameters": 13619200, "bleu": 44.81, "speedup": 1.0}  # fmt: skip
    teacher = row(engine="transformers", model="teacher", precision="fp32", batch_size=1, **numbers, **shared)
    student = teacher | {"engine": "onnx", "model": "student", "precision": "int8", "p50_ms": 2.5, "speedup": 40.02}
    entry = {"method": "imitkd", "data": "references", "parameters": 3000000, "updates": 5200, "seconds": 3000,
             "seed": 1, "num_beams": 1, "precision": "fp32", "dev_bleu": 40.0, "signature": "BLEU|tok:13a"}  # fmt: skip
    quality = [
        entry | {"test_set": "tatoeba", "test_bleu": 43.0, "test_chrf": 58.0},
        entry | {"test_set": "multi30k", "test_bleu": 35.0, "test_chrf": 55.0},
        entry | {"method": "teacher", "updates": None, "seconds": None, "num_beams": 5, "test_set": "tatoeba",
                 "test_bleu": 46.4, "test_chrf": 61.4},
    ]  # fmt: skip
    return {
        "provenance": {"cpu": {"model": "CPU <1>", "cores": 2}, "date": "2026-01-01T00:00:00Z"},
        "rows": [teacher, student, student | {"batch_size": 8, "bleu": None, "chrf": None, "p50_ms": 1234.5}],
        "quality": quality,
    }


QUALITY = """
method|data|parameters|updates|minutes|beams|precision|dev BLEU|tatoeba BLEU|tatoeba chrF|multi30k BLEU|multi30k chrF
---|---|---:|---:|---:|---:|---|---:|---:|---:|---:|---:
imitkd|references|3,000,000|5,200|50|1|fp32|40.0|43.0|58.0|35.0|55.0
teacher|references|3,000,000|–|–|5|fp32|40.0|46.4|61.4|–|–
"""
LATENCY = """
model|engine|precision|batch|beams|threads|p50 ms|p90 ms|p99 ms|sentences/s|tokens/s|memory MB|size MB|parameters|BLEU\
|chrF|speed-up
---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:
teacher|transformers|fp32|1|1|1|100.0|120.0|130.0|10.0|100|182|27.3|13,619,200|44.8|60.2|1.0
student|onnx|int8|1|1|1|2.5|120.0|130.0|10.0|100|182|27.3|13,619,200|44.8|60.2|40.0
student|onnx|int8|8|1|1|1234.5|120.0|130.0|10.0|100|182|27.3|13,619,200|–|–|40.0
"""


def test_markdown_is_the_readmes(table: dict[str, Any]) -> None:
    shown = report.markdown(table).split("\n\n")[:2]
    for text, expected in zip(shown, (QUALITY, LATENCY), strict=True):
        assert text.splitlines() == [f"| {' | '.join(line.split('|'))} |" for line in expected.strip().splitlines()]
    assert report.markdown(table).count("Signature: `BLEU|tok:13a`") == 1


def test_the_terminal_shows_the_same_cells(table: dict[str, Any]) -> None:
    console = Console(width=250, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    report.terminal(table, console)
    console.file.close()
    text = console.export_text()
    for line in report.latency_grid(table).lines:
        assert re.search(r"\s+".join(map(re.escape, line)), text)


def test_json_comes_back_and_is_written_whole(table: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    result_file.write_json(table, path)
    assert result_file.load(path) == json.loads(path.read_text()) == table
    assert [file.name for file in tmp_path.iterdir()] == ["table.json"]
    with pytest.raises(ValueError, match="JSON compliant"):
        result_file.write_json({"rows": [{"p50_ms": float("nan")}]}, path)
    assert result_file.load(path) == table


class Page(HTMLParser):
    """Collects what a browser would fetch, and checks that tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name.split(":")[-1] in ("src", "href", "data", "srcset")]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] in ("td", "th"):
            self.cells.append(data.strip())


def test_the_page_needs_nothing_from_elsewhere(table: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    report.write_html(table, path)
    text = path.read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert all(link.startswith("#") for link in page.links)
    assert not re.search(r"https?:|//\w|@import|url\((?!#)", text)
    assert not {"script", "link", "img", "iframe", "image"} & set(page.tags)
    assert {"svg", "table", "style"} <= set(page.tags)
    assert "13,619,200" in page.cells and "CPU <1>" not in text and "CPU &lt;1&gt;" in text


def test_the_plot_takes_the_pages_colours_and_leaves_out_what_has_no_score(
    table: dict[str, Any], tmp_path: Path
) -> None:
    from benchmarks.reports.html import plot

    drawing = plot(table["rows"])
    assert drawing is not None
    assert "currentColor" in drawing and "#010203" not in drawing
    assert "prefers-color-scheme: dark" in _page(table, tmp_path)
    assert "batch 1" in drawing and "batch 8" not in drawing  # at batch 8 there is no score
    assert "teacher, transformers fp32" in drawing and "student, onnx int8" in drawing
    assert drawing == plot(table["rows"])
    assert plot([row(batch_size=1)]) is None


def test_a_page_without_scores_has_no_plot(table: dict[str, Any], tmp_path: Path) -> None:
    rows = [one | {"bleu": None, "chrf": None, "signature": None} for one in table["rows"]]
    assert "<svg" not in _page({"provenance": {}, "rows": rows}, tmp_path)


def _page(table: dict[str, Any], folder: Path) -> str:
    report.write_html(table, folder / "page.html")
    return (folder / "page.html").read_text(encoding="utf-8")


def test_the_command_prints_markdown(table: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "table.json"
    result_file.write_json(table, path)
    assert main(["report", str(path), "--markdown", "--html", str(tmp_path / "p.html")]) == 0
    assert capsys.readouterr().out == report.markdown(table)
    assert (tmp_path / "p.html").exists()


@pytest.mark.parametrize("content", [None, "not json", "[]", '{"provenance": {}}', '{"rows": 3}'])
def test_what_is_no_bench_is_refused_in_one_line(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "table.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError):
        result_file.load(path)
    assert main(["report", str(path)]) == 3
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and str(path) in captured.err


def test_a_folder_that_cannot_be_written_is_named(table: dict[str, Any], tmp_path: Path, monkeypatch: Any) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="disk is full"):
        result_file.write_json(table, tmp_path / "table.json")
    assert list(tmp_path.iterdir()) == []
