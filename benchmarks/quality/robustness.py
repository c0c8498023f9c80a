"""Scores models on slices of test sets: other letter case, typing mistakes, several sentences, words to copy.

Scores disregard letter case, so that a slice in capital letters compares with the unchanged one. Give test sets that
have what users type: a dictionary for single words, texts of programs for placeholders and numbers. Slices with few
lines are left out, and named. Models that summarize have slices of their own, and ROUGE-L.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from benchmarks.engines.base import EngineSpec
from benchmarks.engines.folders import read_folder, spec_of
from benchmarks.engines.process import Host, LocalHost
from benchmarks.engines.registry import ENGINES, OWN
from benchmarks.measure.result_file import Row, write_json
from benchmarks.quality.evaluate import parse_test_set, quality, read_test_set, translate_all
from benchmarks.quality.slices import LEAST, Slice, SlicedSet, slice_test_set
from compressor.bundle_records import LeftOutSlice, Robustness, RobustnessSlice
from compressor.data.examples import Example
from compressor.data.text_changes import COPIED, NUMBER
from compressor.data_config import Task
from compressor.errors import ConfigError, DataError
from compressor.exporters.robustness import record_robustness
from compressor.progress import Bar
from compressor.provenance import provenance
from compressor.text.metrics import bleu_tokenizer

LONGEST_RATIO, SPARE_CHARACTERS = 3.0, 30
"""An output with more characters than this multiple of its source's, plus the spare ones, is a runaway."""
LOOP = re.compile(r"(?s)(.{1,60}?)\1{5,}$")
"""An ending that says the same thing six times."""
PICTURE = re.compile(r"[\u2600-\u27BF\U0001F000-\U0001FAFF]")
"""Emoji."""
ENDS = ".,;:!?"
"""Signs after a copied word that are the sentence's."""
BATCH_SIZE = 32
METRICS: dict[Task, str] = {"translation": "bleu", "summarization": "rouge_l"}
"""Of which score the loss is told, by task."""
HEADS = {"bleu": "BLEU", "chrf": "chrF", "rouge_l": "ROUGE-L"}


def specs_of(models: Sequence[str]) -> list[EngineSpec]:
    """Returns what is loaded of each folder; the name of a model is its folder's, or the path where two are alike."""
    names = [Path(path).name for path in models]
    labels = [name if names.count(name) == 1 else path for path, name in zip(models, names, strict=True)]
    return [spec_of(path, label, None, None) for path, label in zip(models, labels, strict=True)]


def task_of(models: Sequence[str], given: Task | None) -> Task:
    """Returns the task of the models, which bundles and runs name; translation where none does.

    Raises:
        ConfigError: they have several.
    """
    tasks = {task for task in (given, *(read_folder(path).task for path in models)) if task is not None}
    if len(tasks) > 1:
        raise ConfigError(f"{', '.join(models)}: models of several tasks; measure each task by itself")
    return tasks.pop() if tasks else "translation"


def measure(
    specs: Sequence[EngineSpec],
    tests: Sequence[SlicedSet],
    num_beams: int,
    advance: Callable[[], object],
    task: Task = "translation",
) -> list[Row]:
    """Returns a row for each model, test set and slice; ``advance`` is called for each.

    Slices that are read sentence by sentence are for engines that do that. ``bleu_lost`` (``rouge_l_lost``) is by how
    much the score is lower than that of the outputs of the unchanged lines, on the slice's references; None where a
    slice has other lines.
    """
    rows: list[Row] = []
    for spec in specs:
        host, splits = LocalHost(spec, 1), ENGINES[spec.engine].splits_texts
        try:
            for test in tests:
                clean: list[str] = []
                for one in test.slices:
                    if splits or not one.split:
                        row, outputs = _score(host, one, num_beams, task)
                        clean = clean or outputs
                        named = {"engine": spec.engine, "precision": spec.precision, "test_set": test.name}
                        rows.append({"model": spec.model, "num_beams": num_beams} | named | row)
                        rows[-1] |= _lost(one, row, clean, task)
                    advance()
        finally:
            host.close()
    return rows


def _score(host: Host, part: Slice, num_beams: int, task: Task) -> tuple[Row, list[str]]:
    """Returns the figures of a slice, and its outputs."""
    options: dict[str, Any] = {"split": "sentences"} if part.split else {}
    counter: Counter[str] = Counter()
    sources = [one.source for one in part.examples]
    outputs = translate_all(host, sources, num_beams, BATCH_SIZE, counter=counter, **options)
    figures = scores(part.examples, outputs, counter["length"] + counter["repetition"], task)
    return {"slice": part.name, **figures}, outputs


def _lost(part: Slice, row: Row, clean: Sequence[str], task: Task) -> Row:
    """Returns what a slice loses against the outputs of the unchanged lines."""
    metric = METRICS[task]
    if part.comparable is None:
        return {f"{metric}_lost": None}
    compared = scores(part.examples, part.comparable(clean), task=task)
    return {f"{metric}_lost": round(compared[metric] - row[metric], 4)}


def scores(examples: Sequence[Example], outputs: Sequence[str], cut: int = 0, task: Task = "translation") -> Row:
    """Returns the figures of a slice.

    ``bleu`` and ``chrf`` of a translation, ``rouge_l`` of a summary disregard case; ``length_ratio`` is characters of
    the outputs by those of the references; ``runaways`` counts outputs that are far longer than their source, or end in
    a loop, but at least ``cut``: those that the engine has cut for that; ``copied`` counts the placeholders, addresses,
    numbers and emoji that stand in source and reference alike, ``copied_right`` those of them that stand in the output.
    """
    references = [one.target or "" for one in examples]
    words = [(word, output) for one, output in zip(examples, outputs, strict=True) for word in _to_copy(one)]
    runaways = sum(is_runaway(one.source, output) for one, output in zip(examples, outputs, strict=True))
    return {
        "sentences": len(examples),
        **(_bleu_and_chrf if task == "translation" else _rouge_l)(outputs, references),
        "length_ratio": round(sum(map(len, outputs)) / max(1, sum(map(len, references))), 4),
        "runaways": max(runaways, cut),
        "copied": len(words),
        "copied_right": sum(_stands_in(word, output) for word, output in words),
    }


def _bleu_and_chrf(outputs: Sequence[str], references: Sequence[str]) -> Row:
    bleu = BLEU(lowercase=True, force=True, tokenize=bleu_tokenizer(references))
    chrf = CHRF(lowercase=True)
    return {
        "bleu": round(bleu.corpus_score(outputs, [references]).score, 4),
        "chrf": round(chrf.corpus_score(outputs, [references]).score, 4),
        "signature": f"BLEU|{bleu.get_signature()} chrF2|{chrf.get_signature()}",
    }


def _rouge_l(outputs: Sequence[str], references: Sequence[str]) -> Row:
    scored = quality("summarization", outputs, references)
    return {"rouge_l": scored["rouge_l"], "signature": scored["signature"]}


def is_runaway(source: str, output: str) -> bool:
    """Returns whether an output is far longer than its source, or ends by saying the same thing again and again."""
    if len(output) > LONGEST_RATIO * len(source) + SPARE_CHARACTERS:
        return True
    loop = LOOP.search(output[-600:])
    return loop is not None and LOOP.search(source) is None


def _to_copy(example: Example) -> set[str]:
    """Returns what stands in both sides as it is."""
    source = example.source
    words = {match[0].rstrip(ENDS) for match in COPIED.finditer(source)}
    words |= {match[0] for pattern in (NUMBER, PICTURE) for match in pattern.finditer(COPIED.sub(" ", source))}
    return {word for word in words if _stands_in(word, example.target or "")}


def _stands_in(word: str, text: str) -> bool:
    """Returns whether a text has a word, in any letter case, that is no part of a longer one."""
    return re.search(rf"(?<![\w.,]){re.escape(word)}(?!\w|[.,]\d)", text, re.IGNORECASE) is not None


def left_out_of(tests: Sequence[SlicedSet]) -> list[Row]:
    """Returns which slices of which test sets are too small, with the lines that they have."""
    return [{"test_set": test.name, "slice": one.name, "lines": one.lines} for test in tests for one in test.left_out]


def record_of(rows: Sequence[Row], left_out: Sequence[Row], settings: Row) -> Robustness:
    """Returns the rows of one bundle as they stand in its manifest."""
    names = RobustnessSlice.model_fields
    return Robustness(
        test_set=", ".join(settings["test_sets"]),
        precision=rows[0]["precision"],
        num_beams=settings["num_beams"],
        signature=rows[0]["signature"],
        slices=tuple(RobustnessSlice(**{name: row[name] for name in names if name in row}) for row in rows),
        least_lines=settings["least_lines"],
        left_out=tuple(LeftOutSlice(**row) for row in left_out),
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("model", nargs="+", metavar="MODEL", help="a bundle, a run, or a Hugging Face folder")
    parser.add_argument(
        "--test", action="append", required=True, metavar="NAME=SOURCE,REFERENCE",
        help="a test set, text or a table; repeatable",
    )  # fmt: skip
    parser.add_argument("--sentences", type=int, metavar="N", help="lines taken from the start of each; default: all")
    parser.add_argument(
        "--least-lines", type=int, default=LEAST, metavar="N", help="slices with fewer lines are left out (%(default)s)"
    )
    parser.add_argument("--task", choices=get_args(Task), help="of Hugging Face folders; default: translation")
    parser.add_argument("--num-beams", type=int, default=1, metavar="N")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="the result")
    parser.add_argument("--card", action="store_true", help="write each bundle's rows into its model card and manifest")


def run(options: argparse.Namespace) -> None:
    """Measures, writes the file, and prints a line for each row; `report FILE` makes the table and the plot."""
    specs, task = specs_of(options.model), task_of(options.model, options.task)
    if options.card and all(spec.engine != OWN.name for spec in specs):
        raise ConfigError("{card}: writes into bundles, and none is named", options=["card"])
    tests = _sliced(options.test, task, options.sentences, options.least_lines)
    steps = len(specs) * sum(len(test.slices) for test in tests)
    with Bar(Console(stderr=True), True) as bar:
        rows = measure(specs, tests, options.num_beams, bar.start("slices", steps), task)
    settings = {
        "task": task,
        "test_sets": [test.name for test in tests],
        "num_beams": options.num_beams,
        "least_lines": options.least_lines,
    }
    left_out = left_out_of(tests)
    table = {"provenance": provenance(), "settings": settings, "rows": rows, "left_out": left_out}
    write_json(table, options.json)
    for spec in specs if options.card else []:
        if spec.engine == OWN.name:
            own = [row for row in rows if row["model"] == spec.model]
            record_robustness(Path(spec.path), record_of(own, left_out, settings))
    _print(rows, left_out, options.least_lines)


def _sliced(options: Sequence[str], task: Task, sentences: int | None, least: int) -> list[SlicedSet]:
    """Returns the test sets of the command with their slices. Raises ConfigError or DataError."""
    tests = list(map(parse_test_set, options))
    names = [test.name for test in tests]
    if len(set(names)) < len(names):
        raise ConfigError(f"{{test}}: each needs a name of its own, not {', '.join(names)}", options=["test"])
    sliced = []
    for test in tests:
        pairs = list(zip(*read_test_set(test.source, test.reference), strict=True))[:sentences]
        if not pairs:
            raise DataError(f"{test.source}: has no lines", options=["test"])
        sliced.append(slice_test_set(test.name, [Example(*pair) for pair in pairs], task, least))
    return sliced


def _print(rows: Sequence[Row], left_out: Sequence[Row], least: int) -> None:
    """Prints a line for each row, and what was left out."""
    for row in rows:
        given = [(name, head) for name, head in HEADS.items() if name in row]
        figures = "  ".join(f"{head} {row[name]:5.1f}" for name, head in given)
        where = f"{row['model']:<20} {row['test_set']:<14} {row['slice']:<20}"
        print(f"{where} {figures}  runaways {row['runaways']:>3}  copied {row['copied_right']}/{row['copied']}")
    for one in left_out:
        print(f"{one['test_set']}: {one['slice']}: {one['lines']} lines, fewer than {least}, left out")
