"""Reads examples from files: plain text, JSON lines, JSON, CSV and TSV (also .gz) here, the rest through `datasets`.

What cannot be read is named by file, line and byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from compressor.data.examples import Example
from compressor.data.lines import BadRows, first_line, lines_of, text_of
from compressor.data.tables import datasets_package, records_of
from compressor.errors import DataError


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file, without surrounding white space.

    Raises:
        DataError: the file is missing, empty, damaged, or not UTF-8 (names line and byte).
    """
    return [text_of(line).strip() for line in lines_of(path)]


def read_text(source: Path, target: Path | None, bad: BadRows | None = None) -> list[Example]:
    """Two aligned text files, or one without references.

    Args:
        source: one source a line.
        target: one target a line; None for monolingual sources.
        bad: takes lines that are not UTF-8; None: they are errors.

    Raises:
        DataError: as `read_lines`, or the files differ in their number of lines.
    """
    bad = bad or BadRows()
    sources = lines_of(source)
    targets = lines_of(target) if target else [None] * len(sources)
    if len(sources) != len(targets):
        raise DataError(
            f"{source} has {len(sources)} lines but {target} has {len(targets)}: "
            "line n of one must translate line n of the other"
        )
    examples = []
    for one, other in zip(sources, targets, strict=True):
        try:
            examples.append(Example(text_of(one).strip(), None if other is None else text_of(other).strip()))
        except DataError as error:
            bad.add(error)
    return examples


def read_table(path: Path, source_column: str, target_column: str | None, bad: BadRows | None = None) -> list[Example]:
    """JSON lines, a JSON list of records, CSV, TSV or Parquet; see `records_of`.

    Args:
        path: the file; the ending tells its kind.
        source_column: column of the source; dots enter nested records.
        target_column: column of the target; None for monolingual sources.
        bad: takes rows that cannot be read; None: they are errors.

    Raises:
        DataError: the file is missing, empty, damaged or of another kind, or a column is missing or not text.
        DependencyError: Parquet without the package `datasets`.
    """
    columns = [column for column in (source_column, target_column) if column is not None]
    bad = bad or BadRows()
    examples = list(_from_records(records_of(path, columns), source_column, target_column, bad))
    if not examples and not bad.count:
        raise DataError(f"{path}: the file has no rows")
    return examples


def read_hub(
    name: str,
    config: str | None,
    split: str,
    source_column: str,
    target_column: str | None,
    size: int | None,
    bad: BadRows | None = None,
) -> list[Example]:
    """A data set by its name on the Hugging Face hub; with a ``size``, only that many rows are fetched.

    ``bad`` takes rows whose columns are missing or not text; None: they are errors.

    Raises:
        DataError: the data set, split or column does not exist, or cannot be reached.
        DependencyError: the package `datasets` is absent.
    """
    where = f"{name} ({split})"
    datasets = datasets_package()
    try:
        rows: Iterable[Any] = datasets.load_dataset(name, config, split=split, streaming=size is not None)
        records = ((f"{where}: row {i}", row) for i, row in enumerate(rows, start=1) if size is None or i <= size)
        return list(_from_records(_take(records, size), source_column, target_column, bad or BadRows()))
    except DataError:
        raise
    except Exception as error:  # the package has no common base for what a hub can answer
        raise DataError(f"{where}: cannot be read ({first_line(error)})") from None


def _take(records: Iterator[tuple[str, Any]], size: int | None) -> Iterator[tuple[str, Any]]:
    """Yields the first ``size`` records; all if ``size`` is None."""
    for count, record in enumerate(records, start=1):
        yield record
        if count == size:
            return


def _from_records(
    records: Iterable[tuple[str, Any]], source_column: str, target_column: str | None, bad: BadRows
) -> Iterator[Example]:
    """Yields an example for each record, from its source and target column."""
    for where, record in records:
        try:
            if isinstance(record, DataError):
                raise record
            source = _field(where, record, source_column)
            yield Example(source, None if target_column is None else _field(where, record, target_column))
        except DataError as error:
            bad.add(error)


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
