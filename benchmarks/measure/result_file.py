"""Result files: JSON with the rows of a measurement and its provenance, which a stopped measurement continues."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compressor.errors import ConfigError, DataError
from compressor.files import write_atomic
from compressor.provenance import provenance

Row = dict[str, Any]
Table = dict[str, Any]
"""Content of a result file: at least ``provenance``, and a list of `LISTS`."""
LISTS = ("rows", "load", "tasks")
"""Where a result file has its rows: of most measurements, of servers, of methods by task."""


def write_json(table: Table, path: Path) -> None:
    """Writes a result file, whole or not at all."""
    write_atomic(path, json.dumps(table, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def load(path: Path) -> Table:
    """Reads a result file. Raises DataError where it is none."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a bench's JSON ({' '.join(str(error).split())})") from None
    if not isinstance(table, dict) or not any(isinstance(table.get(name), list) for name in LISTS):
        raise DataError(f"{path}: not a bench's JSON (it has no rows)")
    return table


class ResultFile:
    """A result file that is written after every part of a measurement, and continued when it is there already.

    Args:
        path: The file.
        name: Key of the settings in the provenance.
        settings: What the numbers depend on beside the machine, with ``quick``.
        empty: Content to start from, beside ``rows``.

    Raises:
        DataError: the file is no result file.
    """

    def __init__(self, path: Path, name: str, settings: dict[str, Any], empty: Table) -> None:
        start: Table = {"provenance": {}, **empty, "rows": []}
        self.path, self._name, self._settings = path, name, settings
        self.table = load(path) if path.exists() else start
        before = dict(self.table["provenance"])
        self._earlier = [*before.pop("earlier", []), before] if self.table["rows"] else []
        self._quick = before.get(name, settings)["quick"]

    def check_quick(self) -> None:
        """Raises ConfigError where the file's rows were measured with ``--quick`` and new ones are not, or reverse."""
        if self._quick != self._settings["quick"]:
            how = "with" if self._quick else "without"
            raise ConfigError(f"{self.path}: was made {how} {{quick}}; name another", options=["quick"])

    def write(self, **lists: list[Row]) -> None:
        """Replaces the lists of these names and writes the file, with the provenance of its earlier parts."""
        made = {**provenance(), self._name: self._settings, "earlier": self._earlier}
        self.table = {**self.table, **lists, "provenance": made}
        write_json(self.table, self.path)
