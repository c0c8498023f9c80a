"""Chooses, on the dev set, the letter cases of sentences that a bundle reads in the usual one."""

from __future__ import annotations

import random

from sacrebleu.metrics.chrf import CHRF

from compressor.bundle_records import Case
from compressor.data.examples import Example
from compressor.data.text_changes import CHANGES
from compressor.exporters.checks.dev_set import DevSet, evenly_spaced
from compressor.runtime.generator import Generator
from compressor.text.letter_case import CASES, LetterCase, in_case

SENTENCES = 100
"""Dev sources that are put in each letter case, at most."""
LEAST_GAIN = 1.0
"""chrF, without regard to case."""


def choose_recased(generator: Generator, dev: DevSet) -> tuple[Case, ...]:
    """Returns the letter cases in which dev sources score higher if they are read in the usual case.

    None without references. A text that is read whole, for summarization, counts as a sentence.

    Args:
        generator: A precision of the bundle, which reads sentences as they stand.
        dev: The dev set.
    """
    if dev.references is None:
        return ()
    chosen = evenly_spaced(len(dev.ids), SENTENCES)
    sources = [generator.tokenizer.decode_source(dev.ids[index]) for index in chosen]
    references = [dev.references[index] for index in chosen]
    return tuple(case for case in CASES if _gain(generator, sources, references, case) >= LEAST_GAIN)


def _gain(generator: Generator, sources: list[str], references: list[str], case: Case) -> float:
    """Returns by how much chrF rises if sources in a letter case are read in the usual one."""
    change = CHANGES[f"{case}_case"]
    changed = [change(Example(source), random.Random(0)).source for source in sources]
    letter_case = LetterCase([case], generator.tokenizer.log_probability, generator.manifest.source_language)
    readings = [letter_case.read(text) for text in changed]
    as_it_stands = _outputs(generator, changed)
    outputs = [
        in_case(output, reading.case)
        for output, reading in zip(_outputs(generator, [one.text for one in readings]), readings, strict=True)
    ]
    metric = CHRF(lowercase=True)
    scores = [metric.corpus_score(texts, [references]).score for texts in (outputs, as_it_stands)]
    return float(scores[0] - scores[1])


def _outputs(generator: Generator, sources: list[str]) -> list[str]:
    results = generator.generate(sources, split="none", truncation="longest_first")
    return [result.text for result in results]
