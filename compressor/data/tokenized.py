"""Makes a corpus of token ids in files, from the recipe's data: clean texts, a tokenizer where there is none, ids."""

from __future__ import annotations

import itertools
import random
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from compressor.config import Recipe
from compressor.data.augmentation import changed_examples
from compressor.data.corpus import Cleaner, Corpus, clean_split, refuse_nothing
from compressor.data.drop_report import DropReport
from compressor.data.examples import Example
from compressor.data.parallel_encoding import encode_rows
from compressor.data.text_rows import BLOCK, TextRows
from compressor.data.token_files import FORMAT, LENGTHS_FILE, SIDES, TOKENIZER_FOLDER, CorpusRecord, write_record
from compressor.data.tokenizer_training import train_sentencepiece
from compressor.processors import available_cpus
from compressor.progress import Bar
from compressor.run_folder import Fingerprint
from compressor.text.tokenizer import Tokenizer, load_tokenizer


@dataclass(frozen=True)
class Ingredients:
    """What a corpus of token ids is made from.

    Attributes:
        recipe: its sections ``data`` and ``tokenizer``, and the seed.
        dev: the development set, whose sources are not trained on.
        tokenizer: the student's; None: one is trained on the corpus.
        first_ids: ids before every target, such as the forced target language.
    """

    recipe: Recipe
    dev: Corpus
    tokenizer: Tokenizer | None
    first_ids: tuple[int, ...] = ()


@dataclass
class _Texts:
    """Clean texts in files: those with a target come first, unless they are a sample."""

    parts: list[TextRows]
    parallel: TextRows
    report: DropReport
    train: list[Fingerprint]
    mono: list[Fingerprint]

    def __len__(self) -> int:
        return sum(map(len, self.parts))


def tokenize(made_of: Ingredients, folder: Path, bar: Bar, *, fingerprint: str = "", sample: int | None = None) -> None:
    """Writes the files of a tokenized corpus into ``folder``, see ``token_files``.

    Args:
        made_of: data and tokenizer.
        folder: an empty folder.
        bar: shows the step at work.
        fingerprint: for the record.
        sample: number of examples to encode, and to train a tokenizer on; None: all.

    Raises:
        ConfigError, DataError: see ``load_corpus`` and ``train_sentencepiece``.
    """
    recipe = made_of.recipe
    with tempfile.TemporaryDirectory(dir=folder, prefix="texts.") as name:
        scratch = Path(name)
        texts = _clean_texts(made_of, scratch, bar)
        cleaned = len(texts)
        if sample is not None and cleaned > sample:
            texts = _sampled(texts, sample, recipe.training.seed, scratch)
        tokenizer = made_of.tokenizer
        if tokenizer is None:
            tokenizer = _train_tokenizer(recipe, texts.parallel, folder / TOKENIZER_FOLDER, bar)
        rows = _write_ids(made_of, texts, tokenizer, folder, scratch, bar)
    refuse_nothing(rows, texts.report)
    write_record(
        folder,
        CorpusRecord(
            format=FORMAT,
            fingerprint=fingerprint,
            cleaned=cleaned,
            rows=rows,
            train=tuple(texts.train),
            mono=tuple(texts.mono),
            report=texts.report.record(),
            report_text=texts.report.text(),
        ),
    )


def _clean_texts(made_of: Ingredients, scratch: Path, bar: Bar) -> _Texts:
    """Writes the clean texts of all sources into files."""
    data = made_of.recipe.data
    held_out = [example.source for example in made_of.dev.examples]
    cleaner = Cleaner(held_out, deduplicate=data.deduplicate)
    mono_cleaner = Cleaner(held_out, deduplicate=data.deduplicate)
    train, mono = list[Fingerprint](), list[Fingerprint]()
    parallel = TextRows(scratch / "parallel")
    for example in clean_split(data, "train", cleaner, train, bar):
        parallel.append(example)
        if data.mono:
            mono_cleaner.hold_out(example.source)
    parts = [parallel]
    if data.mono:
        parts.append(TextRows(scratch / "mono", clean_split(data, "mono", mono_cleaner, mono, bar)))
        cleaner.report.add(mono_cleaner.report)
    return _Texts(parts, parallel, cleaner.report, train, mono)


def _sampled(texts: _Texts, count: int, seed: int, scratch: Path) -> _Texts:
    """Draws examples, in random order."""
    chosen = random.Random(seed).sample(range(len(texts)), count)
    examples = list(_chosen(texts.parts, chosen))
    parallel = (example for example in examples if example.target is not None)
    rows = TextRows(scratch / "sample", examples)
    return _Texts([rows], TextRows(scratch / "parallel-sample", parallel), texts.report, texts.train, texts.mono)


def _chosen(parts: Sequence[TextRows], indices: Sequence[int]) -> Iterator[Example]:
    """Yields the examples at these places, counted over all parts."""
    ends = list(itertools.accumulate(map(len, parts)))
    for index in indices:
        part = next(number for number, end in enumerate(ends) if index < end)
        yield parts[part][index - (ends[part] - len(parts[part]))]


def _train_tokenizer(recipe: Recipe, parallel: TextRows, folder: Path, bar: Bar) -> Tokenizer:
    """Trains a tokenizer on both sides, and on what augmentation makes of them in the first pass."""
    config = recipe.tokenizer
    changed = (example for _, example in changed_examples(parallel, recipe.data.augmentation, recipe.training.seed))
    texts = (text for example in itertools.chain(parallel, changed) for text in example if text)
    bar.start(f"training a tokenizer on at most {config.training_sentences:,} sentences", None)
    train_sentencepiece(
        texts,
        folder,
        config.vocab_size,
        training_sentences=config.training_sentences,
        byte_fallback=config.byte_fallback,
    )
    return load_tokenizer(folder)


def _write_ids(made_of: Ingredients, texts: _Texts, tokenizer: Tokenizer, folder: Path, scratch: Path, bar: Bar) -> int:
    """Writes ids and lengths, continues the report, and returns the number of rows."""
    saved, lengths = scratch / TOKENIZER_FOLDER, (array("i"), array("i"))
    saved.mkdir()
    tokenizer.save(saved)
    step = bar.start("encoding", -(-len(texts) // BLOCK))
    with (folder / SIDES[0]).open("wb") as sources, (folder / SIDES[1]).open("wb") as targets:
        data, processes = made_of.recipe.data, available_cpus()
        for encoded in encode_rows(texts.parts, tokenizer, saved, data, made_of.first_ids, processes=processes):
            encoded.sources.tofile(sources)
            encoded.targets.tofile(targets)
            lengths[0].extend(encoded.source_lengths)
            lengths[1].extend(encoded.target_lengths)
            texts.report.add(encoded.report)
            step()
    with (folder / LENGTHS_FILE).open("wb") as file:
        for side in lengths:
            side.tofile(file)
    return len(lengths[0])
