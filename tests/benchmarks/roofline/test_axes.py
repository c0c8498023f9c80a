"""Who takes turns with whom, what is written, and that a stopped run goes on; searches pretend, so times are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.roofline import axes, rates
from benchmarks.roofline.axes import AXES, BASE, measure_axis, open_search
from benchmarks.roofline.work import Point
from compressor.errors import ModelError

RATES = rates.Rates({1: 50.0, 256: 10.0}, {"int8": 80.0, "fp32": 40.0})
Turns = list[tuple[Point, str]]


def pretended(point: Point, precision: str) -> float:
    """Seconds of a call: a step of a batch takes 1 ms a sentence, in fp32 twice that."""
    return 0.001 * point.target_tokens * point.batch_size * {"int8": 1, "fp32": 2}[precision]


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Turns:
    """Replaces searches by ones whose turns take the pretended seconds; returns the list of whose turns were taken."""
    log: Turns = []

    def take(key: tuple[Point, str], least: float) -> float:
        assert least == axes.TURN_S
        log.append(key)
        return pretended(*key)

    monkeypatch.setattr(axes, "open_search", lambda folder, *key: partial(take, key))
    monkeypatch.setattr(rates, "measure", lambda seconds: RATES)
    return log


def test_points_take_turns_with_the_base(monkeypatch: pytest.MonkeyPatch, turns: Turns, tmp_path: Path) -> None:
    points = [BASE._replace(batch_size=size) for size in (8, 32)]
    monkeypatch.setitem(AXES, "batch", points)
    rows = measure_axis("batch", tmp_path, 3)
    assert turns == [(point, one) for point in [BASE, *points] for one in ("int8", "fp32")] * (1 + 3)  # once to warm up
    assert [(row["batch_size"], row["precision"], row["p50_ms"], row["base_ms"]) for row in rows] == [
        (8, "int8", 200.0, 25.0), (8, "fp32", 400.0, 50.0), (32, "int8", 800.0, 25.0), (32, "fp32", 1600.0, 50.0),
    ]  # fmt: skip
    assert all(row["axis"] == "batch" and row["vocab_size"] == 8_000 for row in rows)


def test_every_axis_has_the_base_and_varies_one_thing() -> None:
    for axis, points in AXES.items():
        differing = [{field for field in Point._fields if getattr(one, field) != getattr(BASE, field)}
                     for one in points]  # fmt: skip
        if axis == "several at once":
            assert all(len(fields) >= 2 for fields in differing)
        else:
            assert BASE in points and len(set.union(*differing)) == 1


def test_a_run_goes_on_where_it_was(tmp_path: Path, turns: Turns, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cost.json"
    arguments = ["--json", str(path), "--work", str(tmp_path), "--quick"]
    assert main(["roofline", *arguments]) == 0
    whole = json.loads(path.read_text())
    assert len(whole["rows"]) == 2 * sum(map(len, AXES.values()))
    assert [one["axis"] for one in whole["rates"]] == list(AXES)

    whole["rows"] = [row for row in whole["rows"] if row["axis"] != "beams"]
    path.write_text(json.dumps(whole))
    turns.clear()
    assert main(["roofline", *arguments]) == 0
    assert {point for point, _ in turns} == set(AXES["beams"])
    again = json.loads(path.read_text())
    assert len(again["rows"]) == 2 * sum(map(len, AXES.values())) and again["rates"][-1]["axis"] == "beams"
    assert [one["commit"] for one in again["provenance"]["earlier"]] == [whole["provenance"]["commit"]]

    turns.clear()
    assert main(["roofline", *arguments[:-1]]) == 0  # nothing is left to measure
    assert turns == [] and json.loads(path.read_text()) == again

    path.write_text(json.dumps(whole))
    assert main(["roofline", *arguments[:-1]]) == 2  # what was measured in a hurry is not taken for the rest
    assert "was made with --quick; name another" in capsys.readouterr().err


class Echo:
    """A generator whose outputs have a length of their own."""

    def __init__(self, length: int) -> None:
        self.length, self.asked = length, list[dict[str, Any]]()
        self.tokenizer = self

    def encode_source(self, text: str) -> list[int]:
        return [len(word) for word in text.split()] + [0]

    def generate_ids(self, sources: list[list[int]], **options: Any) -> list[list[int]]:
        self.asked.append({"lengths": [len(source) for source in sources], **options})
        return [[1] * self.length for _ in sources]


@pytest.fixture
def replace_generator(monkeypatch: pytest.MonkeyPatch) -> Callable[[Echo], list[Path]]:
    """Replaces the generator of every bundle; returns the list that collects the folders of the bundles."""

    def replace(echo: Echo) -> list[Path]:
        folders: list[Path] = []
        monkeypatch.setattr(axes, "random_bundle", lambda shape, folder, **_: (folders.append(folder), folder))
        monkeypatch.setattr(axes, "load", lambda bundle, precision: echo)
        return folders

    return replace


def test_a_point_is_one_batch_of_sources_and_outputs_of_its_lengths(replace_generator: Any, tmp_path: Path) -> None:
    echo = Echo(7)
    folders = replace_generator(echo)
    point = BASE._replace(batch_size=3, source_tokens=9, target_tokens=7, num_beams=2, decoder_layers=6)
    assert open_search(tmp_path, point, "int8")(0.0) > 0
    asked = {"lengths": [9, 9, 9], "batch_tokens": 27, "num_beams": 2, "max_new_tokens": 7}
    assert echo.asked == [asked] * 4  # the first call checks the lengths, a turn has three or more
    assert folders == [tmp_path / "6-6-256-1024-8-8000"]


def test_an_output_that_ends_by_itself_is_refused(replace_generator: Any, tmp_path: Path) -> None:
    replace_generator(Echo(6))
    with pytest.raises(ModelError, match="has 6 tokens, not 25"):
        open_search(tmp_path, BASE, "int8")
