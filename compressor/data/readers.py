"""Reads examples from files: plain text and JSON lines (also .gz) directly, the rest through `datasets`.

Lines end at a line feed and nowhere else: U+2028, a vertical tab or a form feed inside a sentence would shift every
later pair against its translation.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from compressor.data.examples import Example
from compressor.errors import DataError, DependencyError


def file_fingerprint(path: Path) -> str:
    """SHA-256 of a file as it lies on disk (of the compressed bytes, for .gz)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file, without surrounding white space.

    Raises:
        DataError: the file is missing, empty, damaged, or not UTF-8 (names line and byte).
    """
    content = _read_bytes(path)
    if not content:
        raise DataError(f"{path}: the file is empty")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start].split(b"\n")
        raise DataError(
            f"{path}: line {len(before)}, byte {len(before[-1]) + 1} (0x{content[error.start]:02x}) is not UTF-8: "
            "convert the file, for example with iconv"
        ) from None
    lines = text.removeprefix("\ufeff").split("\n")
    if lines[-1] == "":  # the file ends with a line feed, as it should
        lines.pop()
    return [line.strip() for line in lines]


def read_text(source: Path, target: Path | None) -> list[Example]:
    """Two aligned text files, or one without references.

    Raises:
        DataError: as `read_lines`, or the files differ in their number of lines.
    """
    sources = read_lines(source)
    if target is None:
        return [Example(line) for line in sources]
    targets = read_lines(target)
    if len(sources) != len(targets):
        raise DataError(
            f"{source} has {len(sources)} lines but {target} has {len(targets)}: "
            "line n of one must translate line n of the other"
        )
    return [Example(*pair) for pair in zip(sources, targets, strict=True)]


def read_table(path: Path, source_column: str, target_column: str | None) -> list[Example]:
    """JSON lines, TSV (with a header line) or Parquet.

    Args:
        path: the file; the ending tells its kind.
        source_column: column of the source; dots enter nested records.
        target_column: column of the target; None for monolingual sources.

    Raises:
        DataError: the file is missing, empty, damaged or of another kind, or a column is missing or not text.
        DependencyError: TSV or Parquet without the package `datasets`.
    """
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".jsonl", ".ndjson")):
        records = _json_records(path)
    elif name.endswith((".tsv", ".parquet")):
        records = _dataset_records(path, "csv" if name.endswith(".tsv") else "parquet", source_column, target_column)
    else:
        raise DataError(f"{path}: not a kind of table that can be read: use .jsonl, .tsv or .parquet (also .jsonl.gz)")
    examples = list(_from_records(records, source_column, target_column))
    if not examples:
        raise DataError(f"{path}: the file has no rows")
    return examples


def read_hub(
    name: str, config: str | None, split: str, source_column: str, target_column: str | None, size: int | None
) -> list[Example]:
    """A data set by its name on the Hugging Face hub; with a ``size``, only that many rows are fetched.

    Raises:
        DataError: the data set, split or column does not exist, or cannot be reached.
        DependencyError: the package `datasets` is absent.
    """
    where = f"{name} ({split})"
    datasets = _datasets()
    try:
        rows: Iterable[Any] = datasets.load_dataset(name, config, split=split, streaming=size is not None)
        records = ((f"{where}: row {i}", row) for i, row in enumerate(rows, start=1) if size is None or i <= size)
        return list(_from_records(_take(records, size), source_column, target_column))
    except DataError:
        raise
    except Exception as error:  # the package has no common base for what a hub can answer
        raise DataError(f"{where}: cannot be read ({_first_line(error)})") from None


def _take(records: Iterator[tuple[str, Any]], size: int | None) -> Iterator[tuple[str, Any]]:
    """Yields the first ``size`` records; all if ``size`` is None."""
    for count, record in enumerate(records, start=1):
        yield record
        if count == size:
            return


def _read_bytes(path: Path) -> bytes:
    """Returns the content of a file, decompressed if its name ends in .gz. Raises DataError."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                return file.read()
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file ({_first_line(error)})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _json_records(path: Path) -> Iterator[tuple[str, Any]]:
    """Yields the value in each line of a JSON-lines file, after its place for error messages."""
    for number, line in enumerate(read_lines(path), start=1):
        where = f"{path}: line {number}"
        try:
            yield where, json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: not valid JSON ({error.msg}, column {error.colno})") from None


def _dataset_records(path: Path, kind: str, source: str, target: str | None) -> Iterator[tuple[str, Any]]:
    """Yields the rows of a TSV or Parquet file as read by `datasets`, each after its place for error messages."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if not path.stat().st_size:
        raise DataError(f"{path}: the file is empty")
    options: dict[str, Any] = {}
    if kind == "csv":  # text as it stands: no quoting, and "NA" or "007" stay strings
        options = {"delimiter": "\t", "quoting": csv.QUOTE_NONE, "na_filter": False, "lineterminator": "\n"}
        options["converters"] = {column: str for column in (source, target) if column}
    datasets = _datasets()
    try:
        # All rows at once: a reader that is left half way keeps its file open.
        rows = list(datasets.load_dataset(kind, data_files=str(path), split="train", streaming=True, **options))
    except Exception as error:  # pandas, pyarrow and fsspec each have errors of their own
        raise DataError(f"{path}: cannot be read as {path.suffix[1:]} ({_first_line(error)})") from None
    for number, row in enumerate(rows, start=1):
        yield f"{path}: row {number}", {str(key).strip(): value for key, value in row.items()}


def _datasets() -> Any:
    """Imports the package `datasets`. Raises DependencyError if it is absent."""
    try:
        return importlib.import_module("datasets")
    except ImportError:
        raise DependencyError(
            "TSV, Parquet and hub data sets need the package datasets: install the extra `train`, "
            "or use plain text or JSON lines"
        ) from None


def _from_records(
    records: Iterable[tuple[str, Any]], source_column: str, target_column: str | None
) -> Iterator[Example]:
    """Yields an example for each record, from its source and target column."""
    for where, record in records:
        source = _field(where, record, source_column)
        yield Example(source, None if target_column is None else _field(where, record, target_column))


def _field(where: str, record: Any, column: str) -> str:
    """Returns the text in a column of a record; dots enter nested records. Raises DataError."""
    value = record
    for key in [column] if isinstance(record, dict) and column in record else column.split("."):
        if not isinstance(value, dict) or key not in value:
            columns = ", ".join(map(str, record)) if isinstance(record, dict) else "not a record"
            raise DataError(f"{where}: no column {column!r} (found: {columns})")
        value = value[key]
    if not isinstance(value, str):
        raise DataError(f"{where}: column {column!r} is {type(value).__name__}, not text")
    return value.strip()


def _first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or its class if it has none."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
