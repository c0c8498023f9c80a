"""A tokenized corpus: the same ids and counts as by plain means, stored once, and made anew where it is damaged."""

from __future__ import annotations

import io
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from compressor.config import Recipe, load_recipe
from compressor.data import parallel_encoding, token_cache, worker_processes
from compressor.data.augmentation import Augmentation
from compressor.data.augmented_pass import AugmentedPass
from compressor.data.corpus import load_corpus
from compressor.data.drop_report import DropReport
from compressor.data.examples import Example, source_key
from compressor.data.first_pass import first_pass
from compressor.data.text_rows import TextRows
from compressor.data.token_cache import digest_of, fingerprint_of, tokenized_corpus
from compressor.data.token_files import TokenizedCorpus
from compressor.data.token_rows import TokenRows
from compressor.data.tokenized import Ingredients
from compressor.data.tokenizer_training import train_sentencepiece
from compressor.data_config import AugmentationConfig
from compressor.errors import DataError
from compressor.progress import Bar
from compressor.text.tokenizer import Tokenizer, load_tokenizer

SOURCE, TARGET, RATIO = 21, 17, 1.2
LIMITS = [f"data.max_source_tokens={SOURCE}", f"data.max_target_tokens={TARGET}", f"data.max_length_ratio={RATIO}"]


@pytest.fixture
def console() -> Console:
    return Console(record=True, width=300, file=io.StringIO())


@pytest.fixture
def recipe(tiny_recipe: Path, tmp_path: Path) -> Recipe:
    """The tiny corpus twice, with monolingual sources of which some are known, and limits that drop something."""
    folder = tiny_recipe.parent
    for language in ("de", "en"):
        lines = (folder / f"train.{language}").read_text(encoding="utf-8").splitlines()
        lines[3:3] = ["", "Satz" * 40]
        (tmp_path / f"train.{language}").write_text("\n".join(lines + lines[::-1]) + "\n", encoding="utf-8")
        (tmp_path / f"dev.{language}").write_bytes((folder / f"dev.{language}").read_bytes())
    known = (folder / "train.de").read_text(encoding="utf-8").splitlines()[:3]
    (tmp_path / "mono.de").write_text("\n".join(["Neu.", *known, "Neu.", "Auch neu!"]) + "\n", encoding="utf-8")
    changes = [f"data.root={tmp_path}", "data.mono=[{source: mono.de}]", "method.name=imitkd", "teacher={path: x}"]
    return load_recipe(tiny_recipe, [*LIMITS, *changes])


@pytest.fixture
def made_of(recipe: Recipe, tiny_run: Path) -> Ingredients:
    return Ingredients(recipe, load_corpus(recipe.data, "dev"), load_tokenizer(tiny_run / "tokenizer"))


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small corpora are stored, and encoded by processes in blocks of some rows."""
    monkeypatch.setattr(token_cache, "SHARED_BYTES", 1)


@pytest.fixture
def in_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel_encoding, "FEW", 0)
    monkeypatch.setattr(parallel_encoding, "BLOCK", 37)
    monkeypatch.setattr("compressor.data.tokenized.available_cpus", lambda: 2)


def plainly(made_of: Ingredients, tokenizer: Tokenizer) -> tuple[list[list[int]], list[list[int]], DropReport]:
    """What a recipe yields by lists, sets and loops: order, reasons, and the first examples of each."""
    data, report = made_of.recipe.data, DropReport()
    held_out = {source_key(example.source) for example in made_of.dev.examples}
    cleaned: list[Example] = []
    for split in ("train", "mono"):
        texts = [(Path(data.root) / f"{split}.{end}").read_text(encoding="utf-8").splitlines() for end in ("de", "en")
                 if split == "train" or end == "de"]  # fmt: skip
        seen: set[Example] = set()
        remaining = []
        for sides in zip(*texts, strict=True):
            example = Example(*sides)
            report.read += 1
            if "" in example:
                report.drop("with an empty side", example)
            elif source_key(example.source) in held_out:
                report.drop("with a held-out source", example)
            elif example in seen:
                report.drop("repeated", example)
            else:
                seen.add(example)
                remaining.append(example)
        held_out |= {source_key(example.source) for example in remaining}
        cleaned += remaining
    sources, targets = [], []
    for example in cleaned:
        source = tokenizer.encode_source(example.source)
        target = tokenizer.encode_target(example.target) if example.target is not None else []
        if len(source) > SOURCE:
            report.drop(f"with a source over {SOURCE} tokens", example)
        elif len(target) > TARGET:
            report.drop(f"with a target over {TARGET} tokens", example)
        elif target and max(len(source), len(target)) > RATIO * min(len(source), len(target)):
            report.drop(f"with a length ratio over {RATIO}", example)
        else:
            sources.append(source)
            targets.append(target)
    return sources, targets, report


def rows_of(corpus: TokenizedCorpus) -> tuple[list[list[int]], list[list[int]]]:
    sides = (corpus.sources, corpus.targets)
    return tuple([side[index].tolist() for index in range(len(side))] for side in sides)  # type: ignore[return-value]


@pytest.mark.parametrize("processes", [False, True])
@pytest.mark.usefixtures("stored")
def test_rows_and_report_are_those_of_the_plain_way(
    made_of: Ingredients, tmp_path: Path, console: Console, processes: bool, request: pytest.FixtureRequest
) -> None:
    if processes:
        request.getfixturevalue("in_processes")
    assert made_of.tokenizer is not None
    sources, targets, report = plainly(made_of, made_of.tokenizer)
    assert len(report.dropped) == 6 and [] in targets
    bar = Bar(console, shown=False)
    for corpus in (
        tokenized_corpus(made_of, bar),
        tokenized_corpus(made_of, bar, cache=tmp_path / "cache"),
        tokenized_corpus(made_of, bar, cache=tmp_path / "cache"),
    ):
        assert rows_of(corpus) == (sources, targets)
        assert corpus.record.report == report.record() and corpus.record.report_text == report.text()
        assert list(corpus.record.report.dropped) == list(report.dropped)
        assert (corpus.record.rows, corpus.tokenizer) == (len(sources), None)
    lines = (Path(made_of.recipe.data.root) / "train.de").read_text(encoding="utf-8").count("\n")
    assert [item.rows for item in corpus.record.train] == [lines, lines]
    text = console.export_text()
    assert text.count("tokenizing the corpus into") == text.count("tokenized examples are in") == 1


@pytest.mark.usefixtures("stored")
def test_a_trained_tokenizer_is_stored_too(recipe: Recipe, tmp_path: Path) -> None:
    config = recipe.tokenizer.model_copy(update={"training_sentences": 100})
    recipe = recipe.model_copy(update={"tokenizer": config})
    made_of = Ingredients(recipe, load_corpus(recipe.data, "dev"), None)
    bar = Bar(Console(quiet=True), shown=False)
    one, two = (tokenized_corpus(made_of, bar, cache=tmp_path / "cache") for _ in range(2))
    examples = load_corpus(recipe.data, "train", [example.source for example in made_of.dev.examples]).examples
    texts = random.Random(1).sample([side for example in examples for side in example if side], 100)
    train_sentencepiece(texts, tmp_path / "own", config.vocab_size, byte_fallback=False)
    assert one.tokenizer is not None and two.tokenizer is not None
    assert digest_of(one.tokenizer) == digest_of(two.tokenizer) == digest_of(load_tokenizer(tmp_path / "own"))
    assert rows_of(one) == rows_of(two)


def test_a_sample_is_drawn_by_the_seed_and_counts_all(made_of: Ingredients) -> None:
    assert made_of.tokenizer is not None
    bar = Bar(Console(quiet=True), shown=False)
    whole = rows_of(tokenized_corpus(made_of, bar))[0]
    sample = tokenized_corpus(made_of, bar, sample=50)
    chosen = rows_of(sample)[0]
    assert 0 < sample.record.rows <= 50 < sample.record.cleaned
    assert all(ids in whole for ids in chosen) and chosen != whole[: len(chosen)]


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (["data.max_source_tokens=8"], True),
        (["data.deduplicate=false"], True),
        (["data.on_error=skip"], True),
        (["data.train=[{source: train.de, target: train.en, size: 90}]"], True),
        (["data.dev=[{source: dev.de, target: dev.en, size: 5}]"], True),
        (["training.updates=3", "training.seed=9", "student.d_model=16", "data.cache=elsewhere"], False),
    ],
)
def test_the_fingerprint_follows_what_the_ids_depend_on(
    made_of: Ingredients, tiny_recipe: Path, change: list[str], differs: bool
) -> None:
    root = [f"data.root={made_of.recipe.data.root}", "method.name=imitkd", "teacher={path: x}"]
    mono = "data.mono=[{source: mono.de}]"
    recipe = load_recipe(tiny_recipe, [*LIMITS, *root, mono, *change])
    other = Ingredients(recipe, load_corpus(recipe.data, "dev"), made_of.tokenizer)
    assert (fingerprint_of(other) != fingerprint_of(made_of)) is differs


def test_the_fingerprint_follows_the_content_of_files_and_the_tokenizer(made_of: Ingredients) -> None:
    root, before = Path(made_of.recipe.data.root), fingerprint_of(made_of)
    assert fingerprint_of(Ingredients(made_of.recipe, made_of.dev, made_of.tokenizer, (5,))) != before
    assert fingerprint_of(Ingredients(made_of.recipe, made_of.dev, None)) != before
    with (root / "train.en").open("a", encoding="utf-8") as file:
        file.write(" ")
    assert fingerprint_of(made_of) != before


def damage(folder: Path, name: str, how: Callable[[bytes], bytes]) -> None:
    (folder / name).write_bytes(how((folder / name).read_bytes()))


@pytest.mark.parametrize(
    ("name", "how", "said"),
    [
        ("sources.int32", lambda content: content[:-4], "sources.int32 is damaged"),
        ("targets.int32", lambda content: b"\1" + content[1:], "targets.int32 is damaged"),
        ("corpus.json", lambda content: content[:99], "corpus.json is missing or damaged"),
        ("corpus.json", lambda content: content.replace(b'"format": 1', b'"format": 0'), "of another version"),
    ],
)
@pytest.mark.usefixtures("stored")
def test_a_damaged_or_stale_folder_is_made_anew_and_said(
    made_of: Ingredients,
    tmp_path: Path,
    console: Console,
    name: str,
    how: Callable[[bytes], bytes],
    said: str,
) -> None:
    cache, bar = tmp_path / "cache", Bar(console, shown=False)
    expected = rows_of(tokenized_corpus(made_of, bar, cache=cache))
    [folder] = cache.iterdir()
    damage(folder, name, how)
    (cache / f".{folder.name}.killed").mkdir()
    assert rows_of(tokenized_corpus(made_of, bar, cache=cache)) == expected
    assert f"{said}; the corpus is tokenized again" in console.export_text()
    assert rows_of(tokenized_corpus(made_of, bar, cache=cache)) == expected
    assert "tokenized again" not in console.export_text()
    assert list(cache.iterdir()) == [folder]


@pytest.mark.usefixtures("stored")
def test_two_at_once_make_it_once(made_of: Ingredients, tmp_path: Path, console: Console) -> None:
    results: list[TokenizedCorpus] = []

    def run() -> None:
        results.append(tokenized_corpus(made_of, Bar(console, shown=False), cache=tmp_path / "cache"))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows_of(results[0]) == rows_of(results[1]) == rows_of(results[2]) == rows_of(results[3])
    assert console.export_text().count("tokenizing the corpus into") == 1
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.usefixtures("stored")
def test_the_first_augmented_pass_is_stored_beside_its_corpus(
    made_of: Ingredients, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, bar, tokenizer = tmp_path / "cache", Bar(console, shown=False), made_of.tokenizer
    assert tokenizer is not None
    corpus = tokenized_corpus(made_of, bar, cache=cache)

    def augmented(seed: int, folder: Path | None) -> AugmentedPass:
        config = AugmentationConfig(upper_case=0.4, typos=0.2)
        return AugmentedPass(Augmentation(config, made_of.recipe.data, tokenizer, seed), tokenizer, folder)

    def listed(sides: tuple[TokenRows, TokenRows]) -> list[list[list[int]]]:
        return [[side[index].tolist() for index in range(len(side))] for side in sides]

    everything = np.arange(corpus.record.rows)
    expected = listed(augmented(5, None).rows(corpus.sources, corpus.targets, 0, everything))
    assert expected != listed((corpus.sources, corpus.targets))
    assert listed(first_pass(corpus.sources, corpus.targets, augmented(5, None), bar)) == expected
    for _ in range(2):
        stored = first_pass(corpus.sources, corpus.targets, augmented(5, corpus.folder), bar)
        assert listed(stored) == expected and stored[0].distinct() == {i for row in expected[0] for i in row}
    assert console.export_text().count("tokenizing the first pass into") == 1
    first_pass(corpus.sources, corpus.targets, augmented(6, corpus.folder), bar)
    assert len(list(cache.iterdir())) == 3  # the corpus, and a pass of each seed
    monkeypatch.setattr(AugmentedPass, "rows", None)
    assert listed(first_pass(corpus.sources, corpus.targets, augmented(5, corpus.folder), bar)) == expected


@pytest.mark.usefixtures("stored", "in_processes")
def test_a_killed_process_is_an_error_and_leaves_nothing(
    made_of: Ingredients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = subprocess.Popen

    def killed(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
        process = start(*arguments, **options)  # type: ignore[call-overload]
        process.send_signal(signal.SIGKILL)
        return process  # type: ignore[no-any-return]

    monkeypatch.setattr(worker_processes.subprocess, "Popen", killed)
    with pytest.raises(DataError, match=r"a process that encodes text stopped \(exit code -9\)"):
        tokenized_corpus(made_of, Bar(Console(quiet=True), shown=False), cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_text_rows_hold_any_text(tmp_path: Path) -> None:
    examples = [Example("ä\n\u2028", "b\0"), Example("x"), Example("\ud800", ""), Example("日本", "語" * 9000)] * 2000
    rows = TextRows(tmp_path / "rows", examples)
    assert list(rows) == examples and len(rows) == 8000
    assert (rows[5], rows[7998:9999], rows[3:3]) == (examples[5], examples[7998:], [])
    with pytest.raises(IndexError):
        rows[8000]


def test_the_encoding_process_needs_no_torch() -> None:
    code = "import sys, compressor.data.encoding_worker; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
