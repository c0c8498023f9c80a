"""Slices of a test set, and the figures of the robustness bench."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sacrebleu import corpus_bleu, corpus_chrf

from benchmarks.__main__ import main
from benchmarks.quality.robustness import is_runaway, scores
from benchmarks.quality.slices import make_slices
from compressor.data.examples import Example

LINES = [
    Example("Der Hund bellt.", "The dog barks."),
    Example("Die Datei %s hat 12 Zeilen.", "The file %s has 12 lines."),
    Example("Danke", "Thanks"),
    Example("Wer kommt morgen?", "Who comes tomorrow?"),
]


def sources(name: str) -> list[str]:
    return next([one.source for one in part.examples] for part in make_slices(LINES) if part.name == name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("as it is", [one.source for one in LINES]),
        ("upper case", ["DER HUND BELLT.", "DIE DATEI %s HAT 12 ZEILEN.", "DANKE", "WER KOMMT MORGEN?"]),
        ("title case", ["Der Hund Bellt.", "Die Datei %s Hat 12 Zeilen.", "Danke", "Wer Kommt Morgen?"]),
        ("no final stop", ["Der Hund bellt", "Die Datei %s hat 12 Zeilen", "Danke", "Wer kommt morgen"]),
        ("two sentences", ["Der Hund bellt. Die Datei %s hat 12 Zeilen."]),
        ("longest tenth", ["Die Datei %s hat 12 Zeilen."]),
        ("single words", ["Danke"]),
    ],
)
def test_slices(name: str, expected: list[str]) -> None:
    assert sources(name) == expected


def test_one_typo_changes_one_word_at_most() -> None:
    for before, after in zip((one.source for one in LINES), sources("one typing mistake"), strict=True):
        assert sum(a != b for a, b in zip(before.split(), after.split(), strict=True)) <= 1
    assert sources("one typing mistake") != [one.source for one in LINES]


def test_scores_disregard_case_and_match_sacrebleu() -> None:
    references, outputs = (
        [one.target or "" for one in LINES],
        ["THE DOG BARKS.", "The file has 12 lines.", "Thanks", ""],
    )
    row = scores(LINES, outputs)
    lower = [text.lower() for text in outputs], [[text.lower() for text in references]]
    assert row["bleu"] == pytest.approx(corpus_bleu(*lower).score, abs=1e-4)
    assert row["chrf"] == pytest.approx(corpus_chrf(*lower).score, abs=1e-4)
    assert (row["copied"], row["copied_right"], row["runaways"]) == (2, 1, 0)


@pytest.mark.parametrize(
    ("source", "output", "runaway"),
    [
        ("Ja.", "Yes, of course it is.", False),
        ("Ja.", "Yes, " + "and then it went on, far longer than that, " * 2, True),
        ("ICH WEISS ES NICHT, MEIN LIEBER FREUND.", "I DO NOT KNOW" + " to be able" * 6, True),
        ("sehr sehr sehr sehr sehr sehr sehr sehr", "very very very very very very very very", False),
    ],
)
def test_runaways(source: str, output: str, runaway: bool) -> None:
    assert is_runaway(source, output) == runaway


def test_command_writes_rows_table_and_plot(
    tiny_bundle: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test, out, plot = tmp_path / "test.jsonl", tmp_path / "out.json", tmp_path / "plot.svg"
    test.write_text("".join(json.dumps(one._asdict()) + "\n" for one in LINES), encoding="utf-8")
    assert main(["robustness", str(tiny_bundle), str(tiny_run), "--source", str(test), "--json", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert {row["model"] for row in rows} == {str(tiny_bundle), str(tiny_run)}
    assert [row["bleu_lost"] for row in rows if row["slice"] == "as it is"] == [0, 0]
    capsys.readouterr()
    assert main(["report", str(out), "--plot", str(plot)]) == 0
    assert capsys.readouterr().out.count("| upper case |") == 2
    assert "upper case" in plot.read_text() and str(tiny_run) in plot.read_text()
