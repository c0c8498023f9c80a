"""The files of a tokenized corpus: made once, shared by all runs on the same data, and mapped into memory.

::

    CACHE/FINGERPRINT/
        corpus.json        `CorpusRecord`: what it was made of, what was dropped, digests of the other files
        sources.int32      token ids end to end
        targets.int32      the same; each target ends with EOS
        lengths.int32      tokens of each source, then of each target, 0 where there is none
        tokenizer/         the tokenizer that was trained on the corpus, if one was
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from compressor.data.lines import file_fingerprint
from compressor.data.token_rows import TokenRows
from compressor.errors import DataError, ModelError
from compressor.files import write_atomic
from compressor.run_folder import DropRecord, Fingerprint, RunPart
from compressor.text.tokenizer import Tokenizer, load_tokenizer

FORMAT = 1
"""Raised when reading, cleaning, augmenting or encoding changes, so that older files are made anew."""

RECORD_FILE, LENGTHS_FILE, TOKENIZER_FOLDER = "corpus.json", "lengths.int32", "tokenizer"
SIDES = ("sources.int32", "targets.int32")
BLOCK = 65_536
"""Rows that are in memory together while they are written."""


class CorpusRecord(RunPart):
    """Content of ``corpus.json``."""

    format: int = Field(description="Version of the files, and of how they are made.")
    fingerprint: str = Field(description="Digest of everything that the ids depend on.")
    cleaned: int = Field(ge=0, description="Examples after cleaning, before limits on tokens; a sample has fewer rows.")
    rows: int = Field(ge=0, description="Examples that are here.")
    train: tuple[Fingerprint, ...] = Field(description="Files of the parallel data.")
    mono: tuple[Fingerprint, ...] = Field(description="Files of the sources without references.")
    report: DropRecord = Field(description="Counts over train and mono.")
    report_text: str = Field(description="The counts as a paragraph.")
    files: dict[str, str] = Field({}, description="SHA-256 of each file.")


@dataclass(frozen=True)
class TokenizedCorpus:
    """A corpus as token ids; row n of each side belongs to example n, a source without a target has an empty row."""

    sources: TokenRows
    targets: TokenRows
    tokenizer: Tokenizer | None
    """The tokenizer that was trained on it, if one was."""
    record: CorpusRecord
    folder: Path | None = None
    """Where its files are, if they stay."""


class StaleError(DataError):
    """The files are missing, damaged or of another version: they must be made anew."""


def write_record(folder: Path, record: CorpusRecord) -> None:
    """Writes the record, with digests of the files in ``folder``."""
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    record = record.model_copy(update={"files": {name: file_fingerprint(folder / name) for name in names}})
    write_atomic(folder / RECORD_FILE, record.model_dump_json(indent=1) + "\n")


def load_tokenized(folder: Path, fingerprint: str) -> TokenizedCorpus:
    """Verifies a tokenized corpus. Its ids stay in the files, and are read as they are used.

    Args:
        folder: where it is.
        fingerprint: what it must have been made of.

    Raises:
        StaleError: see there.
    """
    record = read_record(folder)
    if (record.format, record.fingerprint) != (FORMAT, fingerprint):
        raise StaleError(f"{folder}: of another version")
    for name, digest in record.files.items():
        if _digest(folder / name) != digest:
            raise StaleError(f"{folder}: {name} is damaged")
    try:
        sources, targets = map_rows(folder)
        if len(sources) != record.rows:
            raise ValueError(f"{len(sources)} rows in place of {record.rows}")
        trained = (folder / TOKENIZER_FOLDER).is_dir()
        tokenizer = load_tokenizer(folder / TOKENIZER_FOLDER) if trained else None
    except (OSError, ValueError, ModelError) as error:
        raise StaleError(f"{folder}: damaged ({error})") from None
    return TokenizedCorpus(sources, targets, tokenizer, record, folder)


def write_rows(folder: Path, sources: TokenRows, targets: TokenRows) -> None:
    """Writes ids and lengths of both sides."""
    for name, rows in zip(SIDES, (sources, targets), strict=True):
        with (folder / name).open("wb") as file:
            for start in range(0, len(rows), BLOCK):
                np.concatenate([rows[index] for index in range(start, min(start + BLOCK, len(rows)))]).tofile(file)
    np.concatenate([sources.lengths, targets.lengths]).astype(np.int32).tofile(folder / LENGTHS_FILE)


def map_rows(folder: Path) -> tuple[TokenRows, TokenRows]:
    """Returns sources and targets in a folder, as they are there."""
    lengths = np.fromfile(folder / LENGTHS_FILE, dtype=np.int32).astype(np.int64).reshape(2, -1)
    sources, targets = [TokenRows.of(_ids(folder / name), lengths[side]) for side, name in enumerate(SIDES)]
    return sources, targets


def read_record(folder: Path) -> CorpusRecord:
    """Reads the record of a tokenized corpus. Raises StaleError if it is missing or damaged."""
    try:
        return CorpusRecord.model_validate_json((folder / RECORD_FILE).read_bytes())
    except (OSError, ValidationError):
        raise StaleError(f"{folder}: {RECORD_FILE} is missing or damaged") from None


def _digest(path: Path) -> str | None:
    """Returns the SHA-256 of a file; None if it is missing."""
    try:
        return file_fingerprint(path)
    except DataError:  # missing
        return None


def _ids(path: Path) -> NDArray[np.int32]:
    """Returns the token ids in a file."""
    if not path.stat().st_size:  # an empty file cannot be mapped
        return np.empty(0, dtype=np.int32)
    return np.memmap(path, dtype=np.int32, mode="r")
