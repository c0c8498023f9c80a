"""Reads examples one at a time: plain text, JSON lines, JSON, CSV, TSV (also .gz), Parquet, hub data sets.

What cannot be read is named by file, line and byte.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from compressor.data.examples import Example
from compressor.data.lines import BadRows, first_line, lines_of, text_of
from compressor.data.tables import records_of, train_package
from compressor.errors import DataError


def read_text(source: Path, target: Path | None, bad: BadRows | None = None) -> Iterator[Example]:
    """Yields the pairs of two aligned text files, or the lines of one without references, less white space around.

    Args:
        source: one source a line.
        target: one target a line; None for monolingual sources.
        bad: takes lines that are not UTF-8; None: they are errors.

    Raises:
        DataError: a file is missing, empty, damaged, or not UTF-8 (names line and byte), or the files differ in their
            number of lines, which shows at the end of the shorter one.
    """
    bad = bad or BadRows()
    paths = [source, target] if target else [source]
    rows = itertools.zip_longest(*map(lines_of, paths))
    for number, lines in enumerate(rows):
        if None in lines:
            longer = number + 1 + sum(1 for _ in rows)
            counts = [number if line is None else longer for line in lines]
            raise DataError(
                f"{source} has {counts[0]} lines but {target} has {counts[1]}: "
                "line n of one must translate line n of the other"
            )
        try:
            example = Example(*(text_of(line).strip() for line in lines))
        except DataError as error:
            bad.add(error)
        else:
            yield example


def read_table(
    path: Path, source_column: str, target_column: str | None, bad: BadRows | None = None
) -> Iterator[Example]:
    """Yields the rows of JSON lines, a JSON list of records, CSV, TSV or Parquet; see `records_of`.

    Args:
        path: the file; the ending tells its kind.
        source_column: column of the source; dots enter nested records.
        target_column: column of the target; None for monolingual sources.
        bad: takes rows that cannot be read; None: they are errors.

    Raises:
        DataError: the file is missing, empty, damaged or of another kind, or a column is missing or not text.
        DependencyError: Parquet without the package `pyarrow`.
    """
    columns = [column for column in (source_column, target_column) if column is not None]
    bad, empty = bad or BadRows(), True
    for example in _from_records(records_of(path, columns), source_column, target_column, bad):
        empty = False
        yield example
    if empty and not bad.count:
        raise DataError(f"{path}: the file has no rows")


def read_hub(
    name: str,
    config: str | None,
    split: str,
    source_column: str,
    target_column: str | None,
    size: int | None,
    bad: BadRows | None = None,
) -> Iterator[Example]:
    """Yields a data set by its name on the Hugging Face hub; with a ``size``, only that many rows are fetched.

    ``bad`` takes rows whose columns are missing or not text; None: they are errors.

    Raises:
        DataError: the data set, split or column does not exist, or cannot be reached.
        DependencyError: the package `datasets` is absent.
    """
    where = f"{name} ({split})"
    datasets = train_package("datasets")
    try:
        rows: Iterable[Any] = datasets.load_dataset(name, config, split=split, streaming=size is not None)
        records = ((f"{where}: row {i}", row) for i, row in enumerate(itertools.islice(rows, size), start=1))
        yield from _from_records(records, source_column, target_column, bad or BadRows())
    except DataError:
        raise
    except Exception as error:  # the package has no common base for what a hub can answer
        raise DataError(f"{where}: cannot be read ({first_line(error)})") from None


def _from_records(
    records: Iterable[tuple[str, Any]], source_column: str, target_column: str | None, bad: BadRows
) -> Iterator[Example]:
    """Yields an example for each record, from its source and target column."""
    for where, record in records:
        try:
            if isinstance(record, DataError):
                raise record
            source = _field(where, record, source_column)
            example = Example(source, None if target_column is None else _field(where, record, target_column))
        except DataError as error:
            bad.add(error)
        else:
            yield example


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
