"""Lines of a UTF-8 file, also compressed, with an error in place of each that cannot be read.

Lines end at a line feed and nowhere else: U+2028, a vertical tab or a form feed inside a sentence would shift every
later pair against its translation.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from compressor.errors import DataError

SHOWN = 3
"""Rows that could not be read whose message is remembered."""


class BadRows:
    """Counts rows that cannot be read, or refuses the first of them.

    Args:
        skip: whether such rows are left out.
    """

    def __init__(self, skip: bool = False) -> None:
        self.skip, self.count = skip, 0
        self.shown: list[str] = []
        """What is wrong with the first few."""

    def add(self, error: DataError) -> None:
        """Counts a row. Raises ``error`` if rows may not be left out."""
        if not self.skip:
            raise error
        self.count += 1
        if self.count <= SHOWN:
            self.shown.append(error.message)


class BadLine(DataError):
    """A line is not UTF-8.

    Attributes:
        replaced: the line with U+FFFD for what cannot be read.
    """

    def __init__(self, path: Path, number: int, line: bytes, error: UnicodeDecodeError) -> None:
        super().__init__(
            f"{path}: line {number}, byte {error.start + 1} (0x{line[error.start]:02x}) is not UTF-8: "
            "convert the file, for example with iconv"
        )
        self.replaced = line.decode("utf-8", errors="replace")


def text_of(line: str | BadLine) -> str:
    """Returns a line. Raises DataError if it is a bad one."""
    if isinstance(line, BadLine):
        raise line
    return line


def file_fingerprint(path: Path) -> str:
    """SHA-256 of a file as it lies on disk (of the compressed bytes, for .gz). Raises DataError if it is missing."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> DataError:
    """Returns the error of a file that cannot be opened."""
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: no such file")
    return DataError(f"{path}: cannot be read ({error.strerror})")


def lines_of(path: Path) -> Iterator[str | BadLine]:
    """Yields the lines of a file as they are, a `BadLine` in place of one that is not UTF-8.

    Raises:
        DataError: the file is missing, empty or damaged.
    """
    number = 0
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, start=1):
                yield _decode(path, number, line.removesuffix(b"\n"))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file ({first_line(error)})") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    if not number:
        raise DataError(f"{path}: the file is empty")


def _opened(path: Path) -> BinaryIO:
    """Opens a file, decompressed if its name ends in .gz. Raises OSError."""
    return io.BufferedReader(gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _decode(path: Path, number: int, line: bytes) -> str | BadLine:
    """Returns a line as text, or what is wrong with it."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return BadLine(path, number, line, error)
    return text.removeprefix("\ufeff") if number == 1 else text


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or the name of its class."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
