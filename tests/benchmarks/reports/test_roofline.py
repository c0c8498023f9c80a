"""A table whose times are made from known coefficients: the fit finds them, and the text says what they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.reports.roofline import markdown
from benchmarks.roofline.analysis import analyse
from benchmarks.roofline.rates import Rates
from benchmarks.roofline.work import Point, encoder, roofline, steps

ROOT = Path(__file__).resolve().parents[2]
BASE = Point(2, 1, 16, 32, 2, 96, source_tokens=6, target_tokens=5, batch_size=1, num_beams=1)
AXES = {
    "output tokens": [BASE._replace(target_tokens=count) for count in (3, 5, 20)],
    "source tokens": [BASE._replace(source_tokens=count) for count in (3, 6, 40)],
    "beams": [BASE._replace(num_beams=count) for count in (1, 2, 5)],
    "batch": [BASE._replace(batch_size=count) for count in (1, 8, 32)],
    "vocabulary": [BASE._replace(vocab_size=count) for count in (64, 96, 400)],
    "encoder layers": [BASE._replace(encoder_layers=count) for count in (1, 2, 4)],
    "decoder layers": [BASE._replace(decoder_layers=count) for count in (1, 3)],
    "several at once": [BASE._replace(batch_size=8, num_beams=3)],
}
RATES = Rates({1: 4.0, 256: 1.0}, {"int8": 2.0, "fp32": 1.0})


def seconds(point: Point, precision: str) -> float:
    """100 µs a call, 50 µs a step, 1 ns a multiply-add of matmuls (in fp32 2 ns), 3 µs a step of beam search."""
    matmuls = encoder(point).matmuls + sum(step.matmuls for step in steps(point))
    each = {"int8": 1e-9, "fp32": 2e-9}[precision]
    return 1e-4 + (5e-5 + 3e-6 * (point.num_beams > 1)) * point.target_tokens + each * matmuls


@pytest.fixture(scope="module")
def table() -> dict[str, Any]:
    rows = []
    for axis, points in AXES.items():
        slow = 2.0 if axis == "batch" else 1.0  # the machine was busy then: ratios to the base say nothing of that
        for point in points:
            for precision in ("int8", "fp32"):
                times = {"p50_ms": seconds(point, precision), "base_ms": seconds(BASE, precision)}
                rows.append({"axis": axis, **point._asdict(), "precision": precision}
                            | {key: 1e3 * slow * value for key, value in times.items()})  # fmt: skip
    told = {"quick": False, "rounds": 9, "turn_s": 0.12}
    rates = [{"axis": axis, **RATES._asdict()} for axis in AXES]
    provenance = {"date": "2026-01-01T00:00:00Z", "cpu": {"model": "CPU", "cores": 2}, "roofline": told}
    return {"provenance": provenance, "base": BASE._asdict(), "rates": rates, "rows": rows}


def test_the_model_finds_what_the_times_were_made_from(table: dict[str, Any]) -> None:
    rows, coefficients = analyse(table, "fp32")
    expected = {"call": 1e-4, "step": 5e-5, "encoder multiply-add": 2e-9, "step multiply-add": 2e-9,
                "step of beam search": 3e-6}  # fmt: skip
    assert {name: value for name, value in coefficients.items() if value > 1e-13} == pytest.approx(expected, rel=1e-3)
    points = [point for points in AXES.values() for point in points]
    assert [Point(*(row[field] for field in Point._fields)) for row in rows] == points
    for row, point in zip(rows, points, strict=True):
        assert row["seconds"] == pytest.approx(seconds(point, "fp32")) and abs(row["error"]) < 1e-6
        least, limit = roofline(point, "fp32", RATES)
        assert row["share"] == pytest.approx(least / seconds(point, "fp32")) and row["limit"] == limit


def test_markdown_has_a_line_a_point_and_the_coefficients(table: dict[str, Any]) -> None:
    text = markdown(table)
    heads = ("varied", "time of one")
    points, fitted = (re.findall(rf"^\| {head}.*\n\| -.*\n((?:\|.*\n)+)", text, re.M)[0] for head in heads)
    assert len(points.splitlines()) == sum(map(len, AXES.values()))
    times = [f"{1e3 * seconds(BASE, name):.2f}" for name in ("int8", "fp32")]
    base = next(line for line in points.splitlines() if line.startswith("| batch | 1 |"))
    assert [cell.strip() for cell in base.split("|")][3:5] == [times[0], "1.00"]
    assert [cell.strip() for cell in base.split("|")][8:10] == [times[1], "1.00"]
    assert "| several at once | batch 8, beams 3 |" in points
    assert "| call | 100 µs | 100 µs |" in fitted and "| step multiply-add | 1 ns | 2 ns |" in fitted
    assert "Medians of 9 turns of 0.12 s. Measured on CPU, 2 cores" in text
    assert "--quick" not in text
    table = table | {
        "provenance": table["provenance"] | {"roofline": table["provenance"]["roofline"] | {"quick": True}}
    }
    assert "Measured with `--quick`: not to be quoted." in markdown(table)
