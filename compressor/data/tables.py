"""Records of files with columns: JSON lines, JSON lists, CSV and TSV (also .gz) here, Parquet through `pyarrow`."""

from __future__ import annotations

import csv
import importlib
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from compressor.data.lines import BadLine, first_line, lines_of, text_of
from compressor.errors import DataError, DependencyError

TABLES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
"""Endings of files with columns."""

_SAMPLE_LINES = 64
"""Lines of a CSV file that tell what separates its fields."""

LONGEST_FIELD = 2**31 - 1
"""Characters of a CSV field; the csv module's own limit is 131,072."""


def is_table(path: Path) -> bool:
    """Whether a file's ending is that of a file with columns."""
    return path.name.lower().removesuffix(".gz").endswith(TABLES)


def records_of(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yields each record with where it stands; a DataError in place of one that cannot be read.

    CSV and TSV begin with a line of column names, unless the columns are named by numbers: then ``"1"`` is the first
    column of a file without such a line. CSV is quoted by RFC 4180, and has commas or semicolons between its fields (as
    spreadsheets write it where the comma is in numbers); TSV is not quoted at all.

    Args:
        path: the file; the ending tells its kind.
        columns: names of the columns that are wanted.

    Raises:
        DataError: the file is missing, empty, damaged or of another kind.
        DependencyError: Parquet without the package `pyarrow`.
    """
    match path.name.lower().removesuffix(".gz").rpartition(".")[2]:
        case "jsonl" | "ndjson":
            yield from _json_lines(path)
        case "json":
            yield from _json_list(path)
        case "csv":
            yield from _separated(path, _csv_rows(path, columns), columns)
        case "tsv":
            yield from _separated(path, _tsv_rows(path), columns)
        case "parquet":
            yield from _parquet(path)
        case _:
            raise DataError(f"{path}: not a kind of table that can be read: use {', '.join(TABLES)} (also with .gz)")


def train_package(name: str) -> Any:
    """Returns a module of the extra `train`. Raises DependencyError if it is absent."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise DependencyError(
            f"Parquet and hub data sets need {name}: install the extra `train`, or use plain text, JSON, CSV or TSV"
        ) from None


def _json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Yields the value in each line, after its place for error messages."""
    for number, line in enumerate(lines_of(path), start=1):
        where = f"{path}: line {number}"
        record: Any = line
        if isinstance(line, str):
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                record = DataError(f"{where}: not valid JSON ({error.msg}, column {error.colno})")
        yield where, record


def _json_list(path: Path) -> Iterator[tuple[str, Any]]:
    """Returns the records of a list, each after its place for error messages."""
    try:
        records = json.loads("\n".join(map(text_of, lines_of(path))))
    except json.JSONDecodeError as error:
        message = f"{path}: line {error.lineno}, column {error.colno}: not valid JSON ({error.msg})"
        raise DataError(f"{message}; a file with a record a line ends in .jsonl") from None
    if isinstance(records, dict):
        records = records.get("data")
    if not isinstance(records, list):
        raise DataError(f'{path}: not a list of records, nor {{"data": [...]}} with such a list')
    return ((f"{path}: record {number}", record) for number, record in enumerate(records, start=1))


def _tsv_rows(path: Path) -> Iterator[tuple[int, list[str] | DataError]]:
    """Yields the columns of each line, with its number."""
    for number, line in enumerate(lines_of(path), start=1):
        yield number, line if isinstance(line, DataError) else line.removesuffix("\r").split("\t")


def _delimiter(path: Path, columns: Sequence[str]) -> str:
    """Returns what separates the fields of a CSV file: a semicolon if only then it has the columns, else a comma.

    A file without names has the columns if its first rows have equally many fields, and enough of them.
    """
    sample = [f"{line}\n" for line in islice(lines_of(path), _SAMPLE_LINES) if isinstance(line, str)]
    tables = {delimiter: list(filter(None, csv.reader(sample, delimiter=delimiter))) for delimiter in ",;"}
    if all(column.isdecimal() for column in columns):
        for delimiter, rows in tables.items():
            widths = {len(row) for row in rows[: len(rows) // 2 + 1]}
            if len(widths) == 1 and min(widths) >= max(map(int, columns)):
                return delimiter
        return ","
    names = {delimiter: {name.strip() for row in rows[:1] for name in row} for delimiter, rows in tables.items()}
    return max(",;", key=lambda delimiter: (names[delimiter].issuperset(columns), len(names[delimiter])))


def _csv_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str] | DataError]]:
    """Yields the rows with the number of their first line; a quoted field may have several lines."""
    csv.field_size_limit(LONGEST_FIELD)
    delimiter = _delimiter(path, columns)
    wrong: list[BadLine] = []  # of the row that is read

    def texts() -> Iterator[str]:
        for line in lines_of(path):
            if isinstance(line, BadLine):
                wrong.append(line)
            yield f"{line.replaced if isinstance(line, BadLine) else line}\n"

    reader, start = csv.reader(texts(), delimiter=delimiter, strict=True), 1
    while True:
        wrong.clear()
        row: list[str] | DataError | None
        try:
            row = next(reader, None)
        except csv.Error as error:
            row = DataError(f"{path}: line {start}: not CSV ({error})")
        if row is None:
            return
        yield start, wrong[0] if wrong else row
        start = reader.line_num + 1


def _separated(
    path: Path, rows: Iterator[tuple[int, list[str] | DataError]], columns: Sequence[str]
) -> Iterator[tuple[str, Any]]:
    """Yields a record for each row that is not blank; the first row has the names unless columns are numbers."""
    names: list[str] | None = None
    numbered = all(column.isdecimal() for column in columns)
    for number, row in rows:
        where = f"{path}: line {number}"
        if isinstance(row, DataError):
            if names is None and not numbered:
                raise row  # without the names no row can be read
            yield where, row
        elif row in ([], [""]):
            continue
        elif numbered:
            yield where, {str(place): field for place, field in enumerate(row, start=1)}
        elif names is None:
            names = [name.strip() for name in row]
        elif len(row) != len(names):
            yield where, DataError(f"{where}: {len(row)} columns where the first line names {len(names)}")
        else:
            yield where, dict(zip(names, row, strict=True))


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    """Yields the rows as read by `pyarrow`, each after its place for error messages."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if not path.stat().st_size:
        raise DataError(f"{path}: the file is empty")
    parquet = train_package("pyarrow.parquet")
    try:
        with parquet.ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches(batch_size=256) for row in batch.to_pylist())
            for number, row in enumerate(rows, start=1):
                yield f"{path}: row {number}", row
    except Exception as error:  # pyarrow has errors of its own
        raise DataError(f"{path}: cannot be read as parquet ({first_line(error)})") from None
