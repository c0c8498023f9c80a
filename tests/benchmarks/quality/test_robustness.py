"""Slices of a test set, and the figures of the robustness bench."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import corpus_bleu, corpus_chrf

from benchmarks.__main__ import main
from benchmarks.quality.robustness import METRICS, is_runaway, measure, scores, specs_of, task_of
from benchmarks.quality.slices import Slice, SlicedSet, slice_test_set
from compressor.bundle import MANIFEST_FILE, dump_manifest, open_bundle
from compressor.cli.errors import EXIT_CODES
from compressor.data.examples import Example
from compressor.data_config import Task
from compressor.errors import CompressError, ConfigError, DataError
from compressor.files import write_atomic
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


def sliced(examples: list[Example], task: Task = "translation") -> list[Slice]:
    return slice_test_set("test", examples, task, least=1).slices


def sources(name: str) -> list[str]:
    return next([one.source for one in part.examples] for part in sliced(LINES) if part.name == name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("as it is", [one.source for one in LINES]),
        ("upper case", ["DER HUND BELLT.", "DIE DATEI %s HAT 12 ZEILEN.", "DANKE", "WER KOMMT MORGEN?"]),
        ("title case", ["Der Hund Bellt.", "Die Datei %s Hat 12 Zeilen.", "Danke", "Wer Kommt Morgen?"]),
        ("no final stop", ["Der Hund bellt", "Die Datei %s hat 12 Zeilen", "Danke", "Wer kommt morgen"]),
        ("two sentences", ["Der Hund bellt. Die Datei %s hat 12 Zeilen."]),
        ("two sentences, split", ["Der Hund bellt. Die Datei %s hat 12 Zeilen."]),
        ("copied words, split", sources("copied words")),
        ("longest tenth", ["Die Datei %s hat 12 Zeilen."]),
        ("single words", ["Danke"]),
    ],
)
def test_slices(name: str, expected: list[str]) -> None:
    assert sources(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("upper case", ["A.", "B", "C.", "D?"]),
        ("one typing mistake", ["A.", "B", "C.", "D?"]),
        ("no final stop", ["A", "B", "C.", "D"]),
        ("two sentences", ["A. B"]),
        ("longest tenth", None),
        ("copied words", None),
    ],
)
def test_a_slice_compares_with_outputs_of_the_unchanged_lines(name: str, expected: list[str] | None) -> None:
    (part,) = [one for one in sliced(LINES) if one.name == name]
    assert (part.comparable and part.comparable(["A.", "B", "C.", "D?"])) == expected


def test_one_typo_changes_one_word_at_most() -> None:
    for before, after in zip((one.source for one in LINES), sources("one typing mistake"), strict=True):
        assert sum(a != b for a, b in zip(before.split(), after.split(), strict=True)) <= 1
    assert sources("one typing mistake") != [one.source for one in LINES]


def test_slices_with_few_lines_are_left_out_and_changes_count_the_lines_that_they_alter() -> None:
    test = slice_test_set("test", LINES * 10, least=30)
    assert "no final stop" in {one.name for one in test.slices}  # three of four lines have one
    assert test.left_out == [("two sentences", 15), ("longest tenth", 4), ("single words", 10)]
    assert [one.name for one in slice_test_set("test", LINES, least=30).slices] == ["as it is"]


def test_summaries_have_slices_of_their_own() -> None:
    names = {one.name for one in sliced(LINES, "summarization")}
    assert names == {"as it is", "upper case", "title case", "lower case", "typing mistakes", "longest tenth"}
    row = scores(LINES, ["THE DOG BARKS.", "The file has 12 lines.", "Thanks", ""], task="summarization")
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    expected = [1.0, scorer.score(LINES[1].target, "The file has 12 lines.")["rougeL"].fmeasure, 1.0, 0.0]
    assert row["rouge_l"] == pytest.approx(25 * sum(expected), abs=1e-3) and "bleu" not in row


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
    """Two test sets: the second one is too small for a slice."""
    out, plot = tmp_path / "out.json", tmp_path / "plot.svg"
    tests = [f"--test={name}={written(tmp_path / name, lines)}" for name, lines in (("own", LINES), ("short", PAIR))]
    command = ["robustness", str(tiny_bundle), str(tiny_run), *tests, "--least-lines", "3", "--json", str(out)]
    assert main(command) == 0
    assert "short: single words: 0 lines, fewer than 3, left out" in capsys.readouterr().out
    table = json.loads(out.read_text())
    rows = table["rows"]
    assert {(row["model"], row["test_set"]) for row in rows} == {
        (str(model), name) for model in (tiny_bundle, tiny_run) for name in ("own", "short")
    }
    assert [row["bleu_lost"] for row in rows if row["slice"] == "as it is"] == [0, 0, 0, 0]
    assert {"test_set": "own", "slice": "single words", "lines": 1} in table["left_out"]
    assert main(["report", str(out), "--plot", str(plot)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("| own | upper case |") == 2
    assert "Left out, with fewer than 3 lines: " in shown and "single words of own (1)" in shown
    assert "upper case" in plot.read_text() and str(tiny_run) in plot.read_text()


def test_only_engines_that_split_texts_measure_the_split_slice(
    tiny_bundle: Path, tiny_run: Path, tmp_path: Path
) -> None:
    test, out = written(tmp_path / "test", PAIR), tmp_path / "out.json"
    command = ["robustness", str(tiny_bundle), str(tiny_run), "--test", f"own={test}", "--least-lines", "1"]
    assert main([*command, "--json", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [row["model"] for row in rows if row["slice"] == "two sentences, split"] == [str(tiny_bundle)]


def written(path: Path, lines: list[Example]) -> Path:
    """Returns the path of a test set as JSON lines."""
    path = path.with_suffix(".jsonl")
    path.write_text("".join(json.dumps(one._asdict()) + "\n" for one in lines), encoding="utf-8")
    return path


def test_split_lines_are_answered_as_by_the_product(tiny_bundle: Path) -> None:
    parts = [one for one in sliced(PAIR) if one.name in ("as it is", "two sentences, split")]
    (spec,) = specs_of([str(tiny_bundle)])
    clean, row = measure([spec], [SlicedSet("own", parts, [])], 1, lambda: None)
    alone = [result.text.lower() for result in Generator.load(tiny_bundle).generate([one.source for one in PAIR])]
    expected = corpus_bleu([" ".join(alone)], [["the dog sees the tree. the man knows the bird."]]).score
    assert row["bleu_lost"] == pytest.approx(expected - row["bleu"], abs=2e-4) and clean["bleu_lost"] == 0
    results = Generator.load(tiny_bundle).generate([f"{PAIR[0].source} {PAIR[1].source}"])
    assert row["chrf"] == pytest.approx(
        corpus_chrf([results[0].text.lower()], [["the dog sees the tree. the man knows the bird."]]).score, abs=1e-4
    )


@pytest.mark.parametrize("task", ["translation", "summarization"])
def test_a_bundle_records_its_rows_in_card_and_manifest(
    tiny_bundle: Path, tiny_run: Path, tmp_path: Path, task: Task
) -> None:
    bundle, test, out = tmp_path / "bundle", written(tmp_path / "test", PAIR), tmp_path / "out.json"
    shutil.copytree(tiny_bundle, bundle)
    manifest = open_bundle(bundle).model_copy(update={"task": task})
    write_atomic(bundle / MANIFEST_FILE, dump_manifest(manifest))
    command = ["robustness", "--test", f"own={test}", "--least-lines", "1", "--json", str(out), "--card"]
    models = [str(bundle), str(tiny_run)][: 2 if task == "translation" else 1]
    assert main([*command, *models]) == 0
    after, rows = open_bundle(bundle), json.loads(out.read_text())["rows"]
    own, metric = [row for row in rows if row["engine"] == "onnx"], METRICS[task]
    assert after.robustness is not None and manifest.robustness is None
    assert [(one.slice, getattr(one, metric), one.runaways) for one in after.robustness.slices] == [
        (row["slice"], row[metric], row["runaways"]) for row in own
    ]
    card = (bundle / "README.md").read_text()
    assert f"| {own[0]['slice']} | 2 | {own[0][metric]:.1f} | 0.0 |" in card
    assert ("single words of own (0)" in card) == (task == "translation")
    changed = {name for name, record in after.files.items() if record != manifest.files[name]}
    unmeasured = {"robustness": None, "files": {}}
    assert changed == {"README.md"} and after.model_copy(update=unmeasured) == manifest.model_copy(update=unmeasured)
    assert main([*command, str(tiny_run)]) == EXIT_CODES[ConfigError]


@pytest.mark.parametrize(
    ("tests", "error"),
    [
        (["a={file}", "a={file}"], ConfigError),
        (["{file}"], ConfigError),
        (["a={empty}"], DataError),
    ],
    ids=["one name twice", "no name", "no lines"],
)
def test_test_sets_are_checked(tiny_run: Path, tmp_path: Path, tests: list[str], error: type[CompressError]) -> None:
    files = {"file": str(written(tmp_path / "test", PAIR)), "empty": str(written(tmp_path / "empty", []))}
    options = [part for test in tests for part in ("--test", test.format(**files))]
    assert main(["robustness", str(tiny_run), *options, "--json", str(tmp_path / "out.json")]) == EXIT_CODES[error]


def test_models_of_one_task_are_measured_together(tiny_run: Path) -> None:
    assert task_of([str(tiny_run)], None) == "translation"
    with pytest.raises(ConfigError, match="several tasks"):
        task_of([str(tiny_run)], "summarization")
