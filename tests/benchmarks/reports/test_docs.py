"""Documents are filled from result files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.measure.result_file import load
from benchmarks.reports import docs
from compressor.errors import DataError


def test_marked_tables_are_replaced_and_prose_stays() -> None:
    text = (
        "Before.\n\n<!-- peers -->\nold\n<!-- /peers -->\n\nBetween.\n<!-- roofline -->\n<!-- /roofline -->\nAfter.\n"
    )
    filled = docs.fill(text)
    assert filled.startswith("Before.\n\n<!-- peers -->\n| shape | data |") and "old" not in filled
    assert "\nBetween.\n<!-- roofline -->\n| varied |" in filled and filled.endswith("<!-- /roofline -->\nAfter.\n")
    assert docs.fill(filled) == filled


def test_a_mark_without_a_table_is_refused() -> None:
    with pytest.raises(DataError, match="<!-- other -->: no such table; choose from summary"):
        docs.fill("<!-- other -->\n<!-- /other -->\n")


def test_the_summary_has_at_most_ten_rows_of_teacher_and_onnx() -> None:
    lines = docs.summary(load(docs.RESULTS / "de-en.json")).splitlines()[2:]
    assert 0 < len(lines) <= 10
    engines = [tuple(cell.strip() for cell in line.split("|")[1:4]) for line in lines]
    assert set(engines) == {
        ("teacher", "transformers", "fp32"),
        ("student", "onnx", "fp32"),
        ("student", "onnx", "int8"),
    }


@pytest.mark.parametrize("file", sorted({file for file, _ in docs.SECTIONS.values()}))
def test_every_committed_result_can_be_shown(file: str) -> None:
    if (docs.RESULTS / file).exists():
        table = load(docs.RESULTS / file)
        assert all(make(table) for name, make in docs.SECTIONS.values() if name == file)


@pytest.mark.parametrize("path", sorted(docs.RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_every_kind_of_result_is_shown_as_it_is_in_the_documents(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = {
        make(load(path)) for name, (file, make) in docs.SECTIONS.items() if file == path.name and name != "summary"
    }
    assert main(["report", str(path), "--markdown"]) == 0
    assert not shown or capsys.readouterr().out.strip() in {text.strip() for text in shown}
    is_bench = path.stem in ("de-en", "students", "titles")
    assert main(["report", str(path), "--html", str(tmp_path / "page.html")]) == (0 if is_bench else 2)


def test_the_plot_is_a_file_of_its_own(tmp_path: Path) -> None:
    out = tmp_path / "plot.svg"
    assert main(["report", str(docs.RESULTS / "de-en.json"), "--plot", str(out)]) == 0
    text = out.read_text(encoding="utf-8")
    assert text.startswith("<?xml") and "batch 32" in text and "student, onnx int8" in text
    empty = tmp_path / "rows.json"
    empty.write_text(json.dumps({"rows": []}))
    assert main(["report", str(empty), "--plot", str(out)]) == 3


def test_training_throughput_says_beside_what_it_was_measured() -> None:
    settings = {"threads": 2, "precision": "no", "load_average": 3.25}
    rows = [{"name": "vanilla", "tokens_per_s": 12345, "ratio": 2.1, "peak_mb": 900},
            {"name": "rollout", "tokens_per_s": 2000, "ratio": None, "peak_mb": None}]  # fmt: skip
    text = docs.SECTIONS["training-throughput"][1]({"provenance": {}, "settings": settings, "rows": rows})
    assert "| vanilla | 12,345 | 2.10 | 900 |" in text and "| rollout | 2,000 | – | – |" in text
    assert "in fp32" in text and "the load average before was 3.25" in text
