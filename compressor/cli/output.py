"""Results on standard output, as a table or as JSON; progress on standard error, and only on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.errors import OutputExistsError, StorageError
from compressor.files import write_atomic

if TYPE_CHECKING:
    from rich.progress import Progress

_WIDE = 220  # columns of a table that no terminal limits
_MOST_RECORDS = 4  # of a list on one line
_ONLY_JSON = frozenset({"data", "generation", "provenance", "recipe", "signature", "text_frame"})


def print_json(value: Any) -> None:
    """Prints a value as indented JSON. Raises ValueError if a number in it is NaN or infinite."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str))


def write_json(value: Any, path: str) -> None:
    """Writes a value as JSON to a file, whole or not at all; ``-`` is standard output."""
    if path == "-":
        print_json(value)
    else:
        write_atomic(Path(path), json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n")


def check_writable(paths: Iterable[str | None]) -> None:
    """Refuses result files that cannot be written, before the work that fills them.

    Raises:
        StorageError: the folder is missing.
        OutputExistsError: the path is a folder.
    """
    for name in paths:
        if name is None or name == "-":
            continue
        path = Path(name)
        if path.is_dir():
            raise OutputExistsError(f"{path}: is a folder; name a file")
        if not path.parent.is_dir():
            raise StorageError(f"{path}: the folder {path.parent} does not exist; make it first")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
    """Prints a table; numbers are right-aligned, ``None`` is a dash."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    cells = [["–" if value is None else str(value) for value in row] for row in rows]
    for index, name in enumerate(columns):
        numeric = all(_is_number(row[index]) for row in cells)
        table.add_column(name, justify="right" if numeric and cells else "left", no_wrap=True)
    for row in cells:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False).print(table)


def print_fields(fields: dict[str, Any]) -> None:
    """Prints names and values, one a line; what is ``None`` is left out."""
    width = max((len(name) for name in fields), default=0)
    for name, value in fields.items():
        if value is not None:
            print(f"{name:<{width}}  {value}")


def readable(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields as ``print_fields`` shows them: numbers rounded, a record on one line; long records only go into JSON."""
    return {name: _on_one_line(value) for name, value in fields.items() if name not in _ONLY_JSON}


def say(message: str) -> None:
    """Prints a message on standard error, if that is a terminal."""
    if sys.stderr.isatty():
        print(message, file=sys.stderr, flush=True)


def progress_bar(description: str, *, counted: str = "lines") -> Progress:
    """A progress display on standard error that shows nothing when that is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn(description),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(counted),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    )


def _is_number(text: str) -> bool:
    """Returns whether a cell is right-aligned: a number, or the dash for a missing one."""
    return text == "–" or text.replace(".", "", 1).replace(",", "").rstrip("×").lstrip("-").isdigit()


def _on_one_line(value: Any) -> Any:
    """Returns a value as text on one line; records and lists are written with commas, of many records the number."""
    if isinstance(value, dict):
        parts = {name: _on_one_line(item) for name, item in value.items() if name not in _ONLY_JSON}
        shown = [
            f"{name} ({part})" if isinstance(value[name], dict) else f"{name} {part}"
            for name, part in parts.items()
            if part is not None
        ]
        return ", ".join(shown) or None
    if isinstance(value, list | tuple) and len(value) > _MOST_RECORDS and isinstance(value[0], dict):
        return f"{len(value)} records (--json)"
    if isinstance(value, list | tuple):
        return ", ".join(str(_on_one_line(item)) for item in value) or None
    if isinstance(value, float):
        return f"{value:.4g}"
    return value
