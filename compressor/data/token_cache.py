"""Finds a tokenized corpus by the fingerprint of what it is made of, or makes it; two runs at once make it once.

The fingerprint is a digest of everything that the ids depend on: the content of the data files, how they are read and
cleaned, the tokenizer, the limits. A folder is made under a lock, by another name, and renamed when it is whole.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from compressor.data.corpus import file_names
from compressor.data.lines import file_fingerprint
from compressor.data.token_files import FORMAT, RECORD_FILE, StaleError, TokenizedCorpus, load_tokenized
from compressor.data.tokenized import Ingredients, tokenize
from compressor.data_config import DataConfig, DataSource
from compressor.files import storage_errors
from compressor.locks import hold
from compressor.output_folder import new_folder
from compressor.progress import Bar
from compressor.text.tokenizer import Tokenizer

SHARED_BYTES = 4_000_000
"""Size of the data files from which the result is stored; tokenizing less takes a few seconds."""

LIBRARIES = ("sentencepiece", "tokenizers")


def tokenized_corpus(
    made_of: Ingredients, bar: Bar, *, cache: Path | None = None, sample: int | None = None
) -> TokenizedCorpus:
    """Returns the tokenized corpus of a recipe.

    Args:
        made_of: data and tokenizer.
        bar: shows the step at work, and says what is read or made.
        cache: folder of tokenized corpora. None, a sample, little data, or data sets of a hub: the ids are made anew,
            in files that are gone when the program ends.
        sample: see ``tokenize``.

    Raises:
        ConfigError, DataError: see ``tokenize``.
        StorageError: the disk is full, or the folder cannot be written.
    """
    if cache is None or sample is not None or not is_shared(made_of.recipe.data):
        with tempfile.TemporaryDirectory() as name:
            tokenize(made_of, Path(name), bar, sample=sample)
            return replace(load_tokenized(Path(name), ""), folder=None)  # what is mapped stays readable
    bar.start("reading", None)
    fingerprint = fingerprint_of(made_of)
    with storage_errors(cache):
        cache.mkdir(parents=True, exist_ok=True)

    def make(folder: Path) -> None:
        tokenize(made_of, folder, bar, fingerprint=fingerprint)

    return stored_corpus(cache / fingerprint[:16], fingerprint, make, bar, "the corpus")


def stored_corpus(folder: Path, fingerprint: str, make: Callable[[Path], None], bar: Bar, what: str) -> TokenizedCorpus:
    """Returns a corpus of token ids that is in a folder, or is made there; two processes at once make it once.

    Args:
        folder: where it is or will be; its parent exists.
        fingerprint: digest of what it is made of.
        make: writes its files into a folder.
        bar: says what is read or made.
        what: how it is called there.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    if (folder / RECORD_FILE).exists():
        try:
            return _load(folder, fingerprint, bar, what)
        except StaleError as error:
            bar.say(f"{error}; {what} is tokenized again")
    with hold(folder.with_name(f"{folder.name}.lock"), lambda pid: bar.say(f"process {pid} writes {what}; waiting")):
        try:
            return _load(folder, fingerprint, bar, what)  # another process has made it since
        except StaleError:
            return _make(folder, fingerprint, make, bar, what)


def is_shared(data: DataConfig) -> bool:
    """Whether the tokenized corpus of these data is stored: all of them are files, and they are large."""
    files = [file_names(spec) for spec in (*data.train, *data.mono)]
    paths = [Path(data.root) / name for names in files for name in names]
    return all(files) and sum(path.stat().st_size for path in paths if path.is_file()) >= SHARED_BYTES


def _make(folder: Path, fingerprint: str, make: Callable[[Path], None], bar: Bar, what: str) -> TokenizedCorpus:
    shutil.rmtree(folder, ignore_errors=True)
    for left_over in folder.parent.glob(f".{folder.name}.*"):  # by a process that was killed
        shutil.rmtree(left_over, ignore_errors=True)
    bar.say(f"tokenizing {what} into {folder}, for all runs on the same data")
    start = time.monotonic()
    with new_folder(folder) as temporary:
        make(temporary)
    bar.say(f"tokenized in {time.monotonic() - start:.0f} s")
    return load_tokenized(folder, fingerprint)


def _load(folder: Path, fingerprint: str, bar: Bar, what: str) -> TokenizedCorpus:
    """Reads the corpus, and says so. Raises StaleError."""
    corpus = load_tokenized(folder, fingerprint)
    bar.say(f"{what}: {corpus.record.rows:,} tokenized examples are in {folder}")
    return corpus


def fingerprint_of(made_of: Ingredients) -> str:
    """Returns a digest, in hexadecimal, of everything that the ids depend on. Raises DataError for a missing file."""
    data = made_of.recipe.data
    limits = {"max_source_tokens", "max_target_tokens", "truncate", "max_length_ratio", "deduplicate", "on_error"}
    parts = {
        "format": FORMAT,
        "libraries": [version(name) for name in LIBRARIES],
        "train": [_describe(spec, Path(data.root)) for spec in data.train],
        "mono": [_describe(spec, Path(data.root)) for spec in data.mono],
        "held_out": [example.source for example in made_of.dev.examples],
        "data": data.model_dump(mode="json", include=limits),
        "tokenizer": _describe_tokenizer(made_of),
        "first_ids": made_of.first_ids,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _describe(spec: DataSource, root: Path) -> Any:
    """Returns what decides the examples of a source; of a file, the content and the ending, but not the folder."""
    options = spec.model_dump(mode="json", exclude={"source", "target", "path"})
    return options, [(Path(name).suffixes, file_fingerprint(root / name)) for name in file_names(spec)]


def _describe_tokenizer(made_of: Ingredients) -> Any:
    """Returns what decides the tokenizer: its files, or how it is trained."""
    tokenizer, recipe = made_of.tokenizer, made_of.recipe
    if tokenizer is not None:
        return digest_of(tokenizer)
    options = recipe.tokenizer.model_dump(include={"vocab_size", "training_sentences", "byte_fallback"})
    augmentation = recipe.data.augmentation.shares()  # its texts are trained on, too
    return options, augmentation, recipe.training.seed if augmentation else None


def digest_of(tokenizer: Tokenizer) -> str:
    """Returns a digest of a tokenizer's files and text frame, in hexadecimal."""
    digest = hashlib.sha256(f"{type(tokenizer).__name__} {tokenizer.frame.model_dump_json()}".encode())
    for name, content in sorted(tokenizer.files.items()):
        digest.update(f"{name} {hashlib.sha256(content).hexdigest()}".encode())
    return digest.hexdigest()
