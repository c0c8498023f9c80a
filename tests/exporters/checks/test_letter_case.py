"""A bundle reads sentences in another letter case as usual where that makes dev outputs better."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from compressor.bundle import open_bundle
from compressor.exporters.checks.dev_set import load_dev_set
from compressor.exporters.checks.letter_case import choose_recased
from compressor.models.weights import load_run
from compressor.runtime.generator import Generator

SENTENCE = "Der Hund sieht den Baum."


@pytest.fixture(scope="module")
def generator(tiny_bundle: Path) -> Generator:
    return Generator.load(tiny_bundle, intra_threads=1)


def test_a_model_of_ordinary_text_reads_capitals_as_such(generator: Generator, tiny_bundle: Path) -> None:
    assert "upper" in generator.manifest.recased
    usual = generator.letter_case.read(SENTENCE.upper()).text
    assert usual.startswith("Der ") and usual != SENTENCE.upper()
    ordinary, capitals = generator.generate([usual, SENTENCE.upper()])
    assert capitals.text == ordinary.text.upper() and capitals.token_ids == ordinary.token_ids
    assert "".join(generator.stream(SENTENCE.upper())) == capitals.text
    assert "Sentences in upper case" in (tiny_bundle / "README.md").read_text(encoding="utf-8")


def test_token_ids_are_never_changed(generator: Generator) -> None:
    ids = generator.tokenizer.encode_source(SENTENCE.upper())
    assert generator.encode([SENTENCE.upper()])[0].token_ids == ids


def test_no_case_is_chosen_where_nothing_says_that_it_helps(tiny_bundle: Path, tiny_run: Path) -> None:
    manifest = open_bundle(tiny_bundle).model_copy(update={"recased": ()})
    generator, dev = Generator(tiny_bundle, manifest), load_dev_set(load_run(tiny_run), None, None)
    assert "upper" in choose_recased(generator, dev)
    assert choose_recased(generator, replace(dev, references=None)) == ()
    as_it_stands = [one.text for one in generator.generate([generator.tokenizer.decode_source(dev.ids[0]).upper()])]
    assert choose_recased(generator, replace(dev, ids=dev.ids[:1], references=as_it_stands)) == ()
    generator.manifest = manifest.model_copy(update={"task": "summarization"})
    assert "upper" in choose_recased(generator, dev)
