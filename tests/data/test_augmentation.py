"""Augmentation: each change on text, the shares, and that a pass is the same whenever it is made."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from compressor.data import augmented_pass
from compressor.data.augmentation import Augmentation, join
from compressor.data.augmented_pass import AugmentedPass
from compressor.data.batching import Batches, TokenRows
from compressor.data.examples import Example
from compressor.data.text_changes import CHANGES, NEIGHBOURS
from compressor.data.token_files import LENGTHS_FILE, SIDES
from compressor.data.tokenizer_training import train_sentencepiece
from compressor.data_config import AugmentationConfig, DataConfig
from compressor.text.tokenizer import Tokenizer, load_tokenizer

WORDS = [
    "der",
    "Hund",
    "die",
    "Katze",
    "das",
    "Haus",
    "ein",
    "Baum",
    "sieht",
    "malt",
    "ruft",
    "groß",
    "schnell",
    "heute",
    "morgen",
    "nie",
]


@pytest.fixture(scope="module")
def corpus() -> list[Example]:
    rng = random.Random(4)
    lines = [" ".join(rng.choices(WORDS, k=rng.randint(2, 9))).capitalize() + "." for _ in range(3000)]
    return [Example(line, line[::-1].lstrip(".").capitalize() + "!") for line in lines]


@pytest.fixture(scope="module")
def tokenizer(corpus: list[Example], tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_sentencepiece(
        (text for example in corpus for text in example), folder, 320, training_sentences=2000, byte_fallback=True
    )
    return load_tokenizer(folder)


EVERY = np.arange(3000)
"""Indices of the corpus."""


@pytest.fixture(scope="module")
def rows(corpus: list[Example], tokenizer: Tokenizer) -> tuple[TokenRows, TokenRows]:
    sources = TokenRows(tokenizer.encode_source(example.source) for example in corpus)
    return sources, TokenRows(tokenizer.encode_target(example.target or "") for example in corpus)


def augmentation(
    tokenizer: Tokenizer, max_tokens: int = 400, corpus: Path | None = None, **shares: float
) -> AugmentedPass:
    data = DataConfig.model_validate(
        {"train": [{"source": "a"}], "dev": [{"source": "a"}], "max_source_tokens": max_tokens}
        | {"max_target_tokens": max_tokens}
    )
    return AugmentedPass(Augmentation(AugmentationConfig(**shares), data, tokenizer, seed=5), tokenizer, corpus)


@pytest.mark.parametrize(
    ("change", "source", "target", "new_source", "new_target"),
    [
        (
            "upper_case",
            "Löschen von %s, {name}?",
            "Delete %s, {name}?",
            "LÖSCHEN VON %s, {name}?",
            "DELETE %s, {name}?",
        ),
        ("upper_case", "Öffne a/b.txt -Datei", "Open a/b.txt --now", "ÖFFNE a/b.txt -Datei", "OPEN a/b.txt --now"),
        ("upper_case", "„So“-Ansicht", "So-view", "„SO“-ANSICHT", "SO-VIEW"),
        ("title_case", "Wer hat's gesagt?", "Who's said it?", "Wer Hat's Gesagt?", "Who's Said It?"),
        ("title_case", "an %s über a@b.de", "to %s by a@b.de", "An %s Über a@b.de", "To %s By a@b.de"),
        ("title_case", "www.a.de mit <a href='x'>rot</a>", "x_y z", "www.a.de Mit <a href='x'>rot</a>", "x_y Z"),
        ("upper_case", "von www.a.de", "0xff", "VON www.a.de", "0xff"),
        ("lower_case", "Der Hund im Ärmel", "The Dog", "der hund im ärmel", "The Dog"),
        ("no_stop", "Ja...", "Yes!", "Ja", "Yes"),
        ("no_stop", "Ja.", "Yes", "Ja.", "Yes"),
        ("no_stop", "...", "...", "...", "..."),
    ],
)
def test_changes_of_case_and_stop(change: str, source: str, target: str, new_source: str, new_target: str) -> None:
    assert CHANGES[change](Example(source, target), random.Random(1)) == Example(new_source, new_target)


def test_a_source_without_reference_is_changed_alone() -> None:
    for change in CHANGES.values():
        changed = change(Example("Der große Hund läuft 12 Kilometer."), random.Random(3))
        assert changed.target is None and changed.source != "Der große Hund läuft 12 Kilometer."


def edits(one: str, other: str) -> int:
    """Levenshtein distance, by the textbook's table."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


@pytest.mark.parametrize(("letter", "beside"), [("r", "t"), ("p", "ü"), ("n", "m"), ("m", "n"), ("ä", "ö"), ("a", "s")])
def test_a_wrong_key_is_beside_the_right_one(letter: str, beside: str) -> None:
    assert NEIGHBOURS[letter] == beside


@pytest.mark.parametrize(("words", "missing"), [(1, 0), (2, 1), (9, 1), (20, 2), (100, 10)])
def test_one_word_in_ten_is_missing(words: int, missing: int) -> None:
    example = Example(" ".join(f"w{place}" for place in range(words)), "x")
    changed = CHANGES["missing_words"](example, random.Random(1))
    rest = iter(example.source.split())
    assert changed.target == "x" and len(changed.source.split()) == words - missing
    assert all(word in rest for word in changed.source.split())  # in their order, each once


def test_typos_are_few_and_inside_words() -> None:
    example = Example("Die Kätzchen springen über %1$s und 1234567 zu a@b.de.", "x")
    for seed in range(200):
        changed = CHANGES["typos"](example, random.Random(seed))
        assert changed.target == "x" and 0 <= edits(example.source, changed.source) <= 4
        assert all(word in changed.source for word in ("%1$s", "1234567", "a@b.de"))
        assert changed.source.startswith("Die ")


def test_copied_words_stand_on_both_sides() -> None:
    example, seen = Example("Der Hund bellt.", "The dog barks."), set()
    for seed in range(300):
        changed = CHANGES["copied"](example, random.Random(seed))
        word = changed.source.replace("Der Hund bellt", "").strip()
        assert changed.target is not None and word == changed.target.replace("The dog barks", "").strip()
        seen.add(word)
    assert len(seen) > 100 and any("%1$s" in word for word in seen)


def test_a_common_number_becomes_another_on_both_sides() -> None:
    example, numbers = Example("Es kostet 18,10 € im Jahr 2024.", "It costs €18.10 in 2024."), set()
    for seed in range(300):
        changed = CHANGES["copied"](example, random.Random(seed))
        if match := re.fullmatch(r"Es kostet (\S+) € im Jahr 2024\.", changed.source):
            assert changed.target == f"It costs €{match[1].replace(',', '.')} in 2024."
            numbers.add(match[1])
    assert len(numbers) > 50


def test_join_takes_sentences_alone() -> None:
    texts = [Example("Ja.", "Yes."), Example("Haus", "house"), Example("Nein!", "No!"), Example("Mono.")]
    joined = {join(texts, 0, random.Random(seed)) for seed in range(100)}
    assert {len(example.source.split()) for example in joined} >= {2, 3}
    for example in joined:
        assert example.target and example.source.replace("Ja", "Yes").replace("Nein", "No") == example.target
    assert join(texts, 1, random.Random(0)) == texts[1]
    alone = join(texts, 3, random.Random(0))
    assert alone.target is None and set(alone.source.split()) == {"Mono."}


def test_shares_of_a_pass(tokenizer: Tokenizer, rows: tuple[TokenRows, TokenRows], corpus: list[Example]) -> None:
    sources, targets = augmentation(tokenizer, upper_case=0.2, no_stop=0.1).rows(*rows, 0, EVERY)
    decoded = [tokenizer.decode_source(sources[index].tolist()) for index in range(len(corpus))]
    upper = [index for index, text in enumerate(decoded) if text == corpus[index].source.upper()]
    bare = [index for index, text in enumerate(decoded) if text == corpus[index].source.rstrip(".")]
    assert len(upper) == pytest.approx(600, abs=90) and len(bare) == pytest.approx(300, abs=70)
    for index in upper:
        assert tokenizer.decode(targets[index].tolist()) == (corpus[index].target or "").upper()
    same = set(range(len(corpus))) - set(upper) - set(bare)
    assert all(np.array_equal(sources[index], rows[0][index]) for index in same)
    assert sources.lengths.tolist() == [len(sources[index]) for index in range(len(corpus))]


def test_limits_hold(tokenizer: Tokenizer, rows: tuple[TokenRows, TokenRows]) -> None:
    longest = max(rows[0].lengths.max(), rows[1].lengths.max())
    sources, targets = augmentation(tokenizer, max_tokens=int(longest), joined=1.0).rows(*rows, 0, EVERY)
    assert max(sources.lengths.max(), targets.lengths.max()) <= longest
    assert (sources.lengths > rows[0].lengths).sum() > 100


def test_passes_differ_and_each_is_the_same_again(tokenizer: Tokenizer, rows: tuple[TokenRows, TokenRows]) -> None:
    def batches(epoch: int, start: int = 0) -> list[list[int]]:
        change = augmentation(tokenizer, typos=0.3, joined=0.2).rows
        made = Batches(*rows, pad_id=0, max_tokens=300, seed=3, change=change)
        return [batch.source.flatten().tolist() for batch in made.stretch(epoch, 0, start)]

    assert batches(1, start=40) == batches(1)[40:]
    assert sorted(batches(0)) != sorted(batches(1))


def test_processes_make_the_same_pass_and_tell_how_far_they_are(
    tokenizer: Tokenizer, rows: tuple[TokenRows, TokenRows], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, side in zip(SIDES, rows, strict=True):
        np.concatenate([side[index] for index in range(len(side))]).astype(np.int32).tofile(tmp_path / name)
    np.concatenate([side.lengths for side in rows]).astype(np.int32).tofile(tmp_path / LENGTHS_FILE)
    expected = augmentation(tokenizer, typos=0.2, joined=0.2, copied=0.2).rows(*rows, 2, EVERY)
    monkeypatch.setattr(augmented_pass, "FEW", 0)
    monkeypatch.setattr(augmented_pass, "PART", 700)
    monkeypatch.setattr(augmented_pass, "processors", lambda: 2)
    in_processes, told = augmentation(tokenizer, corpus=tmp_path, typos=0.2, joined=0.2, copied=0.2), []
    in_processes.progress = lambda done, total: told.append((done, total))
    for made, side in zip(in_processes.rows(*rows, 2, EVERY), expected, strict=True):
        assert [made[index].tolist() for index in range(3000)] == [side[index].tolist() for index in range(3000)]
    assert told == [(done, 3000) for done in (0, 700, 1400, 2100, 2800, 3000)]


def test_shares_above_one_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"the shares add up to 1\.1"):
        AugmentationConfig(upper_case=0.6, typos=0.5)
