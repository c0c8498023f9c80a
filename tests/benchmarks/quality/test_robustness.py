"""Slices of a test set, and the figures of the robustness bench."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from sacrebleu import corpus_bleu, corpus_chrf

from benchmarks.__main__ import main
from benchmarks.quality.robustness import is_runaway, measure, scores, specs_of
from benchmarks.quality.slices import make_slices
from compressor.bundle import open_bundle
from compressor.cli.errors import EXIT_CODES
from compressor.data.examples import Example
from compressor.errors import ConfigError
from compressor.runtime.generator import Generator

LINES = [
    Example("Der Hund bellt.", "The dog barks."),
    Example("Die Datei %s hat 12 Zeilen.", "The file %s has 12 lines."),
    Example("Danke", "Thanks"),
    Example("Wer kommt morgen?", "Who comes tomorrow?"),
]
PAIR = [
    Example("Der Hund sieht den Baum.", "The dog sees the tree."),
    Example("Der Mann kennt den Vogel.", "The man knows the bird."),
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
        ("two sentences, split", ["Der Hund bellt. Die Datei %s hat 12 Zeilen."]),
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
    ("source", "target", "output", "counts"),
    [
        ("Hund 😀 an www.foo.de, 0x1fa3b2.", "Dog 😀 at www.foo.de, 0x1fa3b2.", "Dog at www.foo.de.", (3, 1)),
        ("Es sind 5.", "There are 5.", "There are 1533.", (1, 0)),
        ("Es sind 5.", "There are 5.", "There are 5.5 or 25.", (1, 0)),
        ("Nimm %1$s oder https://a.de/b.", "Take %1$s or https://a.de/b.", "https://a.de/b or %1$s", (2, 2)),
        ("Hund", "dog", "dog", (0, 0)),
    ],
)
def test_what_is_copied_is_whole_words(source: str, target: str, output: str, counts: tuple[int, int]) -> None:
    row = scores([Example(source, target)], [output])
    assert (row["copied"], row["copied_right"]) == counts


def test_outputs_that_the_engine_has_cut_are_runaways() -> None:
    assert scores(LINES, ["A"] * len(LINES), cut=3)["runaways"] == 3


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
    assert [row["model"] for row in rows if row["slice"] == "two sentences, split"] == [str(tiny_bundle)]
    assert {row["model"] for row in rows} == {str(tiny_bundle), str(tiny_run)}
    assert [row["bleu_lost"] for row in rows if row["slice"] == "as it is"] == [0, 0]
    capsys.readouterr()
    assert main(["report", str(out), "--plot", str(plot)]) == 0
    assert capsys.readouterr().out.count("| upper case |") == 2
    assert "upper case" in plot.read_text() and str(tiny_run) in plot.read_text()


def test_split_lines_are_answered_as_by_the_product(tiny_bundle: Path) -> None:
    (part,) = [one for one in make_slices(PAIR) if one.split]
    (spec,) = specs_of([str(tiny_bundle)])
    (row,) = measure([spec], [part], 1, lambda: None)
    results = Generator.load(tiny_bundle).generate([f"{PAIR[0].source} {PAIR[1].source}"])
    assert row["chrf"] == pytest.approx(
        corpus_chrf([results[0].text.lower()], [["the dog sees the tree. the man knows the bird."]]).score, abs=1e-4
    )


def test_a_bundle_records_its_rows_in_card_and_manifest(tiny_bundle: Path, tiny_run: Path, tmp_path: Path) -> None:
    bundle, test, out = tmp_path / "bundle", tmp_path / "test.jsonl", tmp_path / "out.json"
    shutil.copytree(tiny_bundle, bundle)
    test.write_text("".join(json.dumps(one._asdict()) + "\n" for one in PAIR), encoding="utf-8")
    before = open_bundle(bundle)
    command = ["robustness", "--source", str(test), "--json", str(out), "--card"]
    assert main([*command, str(bundle), str(tiny_run)]) == 0
    after, rows = open_bundle(bundle), json.loads(out.read_text())["rows"]
    own = [row for row in rows if row["engine"] == "onnx"]
    assert after.robustness is not None and before.robustness is None
    assert [(one.slice, one.bleu, one.runaways) for one in after.robustness.slices] == [
        (row["slice"], row["bleu"], row["runaways"]) for row in own
    ]
    assert f"| {own[0]['slice']} | 2 | {own[0]['bleu']:.1f} | 0.0 |" in (bundle / "README.md").read_text()
    changed = {name for name, record in after.files.items() if record != before.files[name]}
    assert changed == {"README.md"} and after.model_copy(update={"robustness": None, "files": {}}) == before.model_copy(
        update={"files": {}}
    )
    assert main([*command, str(tiny_run)]) == EXIT_CODES[ConfigError]
