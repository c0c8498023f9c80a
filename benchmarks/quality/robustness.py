"""Scores models on slices of a test set: other letter case, typing mistakes, several sentences, words to copy.

Scores disregard letter case, so that a slice in capital letters compares with the unchanged one.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from benchmarks.engines.base import EngineSpec
from benchmarks.engines.folders import spec_of
from benchmarks.engines.process import Host, LocalHost
from benchmarks.engines.registry import ENGINES, OWN
from benchmarks.measure.result_file import Row, write_json
from benchmarks.quality.evaluate import read_test_set, translate_all
from benchmarks.quality.slices import Slice, make_slices
from compressor.bundle_records import Robustness, RobustnessSlice
from compressor.data.examples import Example
from compressor.data.text_changes import COPIED, NUMBER
from compressor.errors import ConfigError
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


def specs_of(models: Sequence[str]) -> list[EngineSpec]:
    """Returns what is loaded of each folder; the name of a model is its folder's, or the path where two are alike."""
    names = [Path(path).name for path in models]
    labels = [name if names.count(name) == 1 else path for path, name in zip(models, names, strict=True)]
    return [spec_of(path, label, None, None) for path, label in zip(models, labels, strict=True)]


def measure(
    specs: Sequence[EngineSpec], slices: Sequence[Slice], num_beams: int, advance: Callable[[], object]
) -> list[Row]:
    """Returns a row for each model and slice; ``advance`` is called for each.

    Slices that are read sentence by sentence are for engines that do that.
    """
    rows: list[Row] = []
    for spec in specs:
        host, splits = LocalHost(spec, 1), ENGINES[spec.engine].splits_texts
        try:
            for one in slices:
                row = {"model": spec.model, "engine": spec.engine, "precision": spec.precision, "num_beams": num_beams}
                if splits or not one.split:
                    rows.append(row | _score(host, one, num_beams))
                advance()
        finally:
            host.close()
    for row in rows:
        clean = next(one for one in rows if one["model"] == row["model"])
        row["bleu_lost"] = round(clean["bleu"] - row["bleu"], 4)
    return rows


def _score(host: Host, part: Slice, num_beams: int) -> Row:
    options: dict[str, Any] = {"split": "sentences"} if part.split else {}
    counter: Counter[str] = Counter()
    sources = [one.source for one in part.examples]
    outputs = translate_all(host, sources, num_beams, BATCH_SIZE, counter=counter, **options)
    return {"slice": part.name, **scores(part.examples, outputs, counter["length"] + counter["repetition"])}


def scores(examples: Sequence[Example], outputs: Sequence[str], cut: int = 0) -> Row:
    """Returns the figures of a slice.

    ``bleu`` and ``chrf`` disregard case; ``length_ratio`` is characters of the outputs by those of the references;
    ``runaways`` counts outputs that are far longer than their source, or end in a loop, but at least ``cut``: those
    that the engine has cut for that; ``copied`` counts the placeholders, addresses, numbers and emoji that stand in
    source and reference alike, ``copied_right`` those of them that stand in the output.
    """
    references = [one.target or "" for one in examples]
    bleu = BLEU(lowercase=True, force=True, tokenize=bleu_tokenizer(references))
    chrf = CHRF(lowercase=True)
    words = [(word, output) for one, output in zip(examples, outputs, strict=True) for word in _to_copy(one)]
    runaways = sum(is_runaway(one.source, output) for one, output in zip(examples, outputs, strict=True))
    return {
        "sentences": len(examples),
        "bleu": round(bleu.corpus_score(outputs, [references]).score, 4),
        "chrf": round(chrf.corpus_score(outputs, [references]).score, 4),
        "length_ratio": round(sum(map(len, outputs)) / max(1, sum(map(len, references))), 4),
        "runaways": max(runaways, cut),
        "copied": len(words),
        "copied_right": sum(_stands_in(word, output) for word, output in words),
        "signature": f"BLEU|{bleu.get_signature()} chrF2|{chrf.get_signature()}",
    }


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


def record_of(rows: Sequence[Row], settings: Row) -> Robustness:
    """Returns the rows of one bundle as they stand in its manifest."""
    names = RobustnessSlice.model_fields
    return Robustness(
        test_set=settings["test_set"],
        precision=rows[0]["precision"],
        num_beams=settings["num_beams"],
        signature=rows[0]["signature"],
        slices=tuple(RobustnessSlice(**{name: row[name] for name in names}) for row in rows),
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("model", nargs="+", metavar="MODEL", help="a bundle, a run, or a Hugging Face folder")
    parser.add_argument("--source", type=Path, required=True, metavar="FILE", help="text, or JSON lines")
    parser.add_argument("--reference", type=Path, metavar="FILE", help="text aligned with it")
    parser.add_argument("--sentences", type=int, metavar="N", help="lines taken from its start; default: all")
    parser.add_argument("--num-beams", type=int, default=1, metavar="N")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="the result")
    parser.add_argument("--card", action="store_true", help="write each bundle's rows into its model card and manifest")


def run(options: argparse.Namespace) -> None:
    """Measures, writes the file, and prints a line for each row; `report FILE` makes the table and the plot."""
    specs = specs_of(options.model)
    if options.card and all(spec.engine != OWN.name for spec in specs):
        raise ConfigError("{card}: writes into bundles, and none is named", options=["card"])
    pairs = zip(*read_test_set(options.source, options.reference), strict=True)
    slices = make_slices([Example(*pair) for pair in pairs][: options.sentences])
    with Bar(Console(stderr=True), True) as bar:
        rows = measure(specs, slices, options.num_beams, bar.start("slices", len(slices) * len(specs)))
    settings = {"test_set": options.source.name, "num_beams": options.num_beams}
    write_json({"provenance": provenance(), "settings": settings, "rows": rows}, options.json)
    for spec in specs if options.card else []:
        if spec.engine == OWN.name:
            own = [row for row in rows if row["model"] == spec.model]
            record_robustness(Path(spec.path), record_of(own, settings))
    for row in rows:
        figures = f"BLEU {row['bleu']:5.1f}  chrF {row['chrf']:5.1f}  runaways {row['runaways']:>3}"
        print(f"{row['model']:<20} {row['slice']:<20} {figures}  copied {row['copied_right']}/{row['copied']}")
