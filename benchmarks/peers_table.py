"""The table of peers as Markdown: ``python -m benchmarks.peers_table FILE``. How many times as fast, cell by cell."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import report
from compressor.bundle import SHORTLIST
from compressor.errors import CompressError

Row = dict[str, Any]
Cell = tuple[str, str, int, int]
Rows = dict[tuple[str, str, str], Row]
"""Of a cell, by model, engine and form."""

OWN = ("onnx", "int8")
RIVAL = ("ctranslate2", "int8")
PEERS = {
    RIVAL: "CTranslate2 int8",
    ("ctranslate2", "fp32"): "CTranslate2 fp32",
    ("marian", "int8"): "Marian int8",
    ("optimum", "fp32"): "Optimum",
    ("openvino", "fp32"): "OpenVINO",
    ("transformers", "fp32"): "`generate` fp32",
    ("transformers", "bf16"): "`generate` bf16",
}
FORMS = {"fp32": "fp32", "int4": "int4", f"int8{SHORTLIST}": "int8 and shortlist"}
"""Of the student in ONNX beside int8, which the headline is about."""


def markdown(table: dict[str, Any]) -> str:
    """A table of cells, what it comes to, and our other forms beside int8. A cell that is lost is bold."""
    cells = by_cell(table["rows"])
    beside = _table(cells, {name: partial(ratio, peer=peer) for peer, name in PEERS.items()}, mark="**")
    told = "Our other forms: how many times as fast as our int8."
    forms = _table(cells, {name: partial(_as_fast, precision=precision) for precision, name in FORMS.items()})
    return "\n".join([*beside, "", *summary(cells), *factors(table.get("factors", [])), "", told, "", *forms]) + "\n"


def _table(cells: dict[Cell, Rows], columns: dict[str, Callable[[Rows], float | None]], mark: str = "") -> list[str]:
    """A line for each cell; ``mark`` goes around what is below one."""
    heads = ["shape", "data", "batch", "beams", "tokens/s", *columns]
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join(['---', '---', *['---:'] * (len(heads) - 2)])} |"]
    for cell, rows in sorted(cells.items(), key=lambda item: (item[0][0], item[0][1], item[0][3], item[0][2])):
        own = rows["student", *OWN]["tokens_per_s"]
        ratios = [_shown(column(rows), mark) for column in columns.values()]
        shape, data, batch, beams = cell
        lines.append(f"| {' | '.join([shape, data, str(batch), str(beams), f'{own:,.0f}', *ratios])} |")
    return lines


def form(row: Row) -> str:
    """A row's precision, and whether it has a shortlist."""
    return f"{row['precision']}{SHORTLIST if row.get('shortlist') else ''}"


def by_cell(rows: Iterable[Row]) -> dict[Cell, Rows]:
    """Rows by cell, then by model, engine and form."""
    cells: dict[Cell, Rows] = {}
    for row in rows:
        cell = (row["shape"], row["data"], row["batch_size"], row["num_beams"])
        cells.setdefault(cell, {})[row["model"], row["engine"], form(row)] = row
    return cells


def ratio(rows: Rows, peer: tuple[str, str], key: str = "tokens_per_s") -> float | None:
    """The int8 student's value over a peer's; None where the peer took no part."""
    other = rows.get(("student", *peer))
    return None if other is None or not other[key] else rows["student", *OWN][key] / other[key]


def _as_fast(rows: Rows, precision: str) -> float | None:
    """A form's tokens a second over those of int8; None where it was not measured."""
    other = rows.get(("student", "onnx", precision))
    return None if other is None else other["tokens_per_s"] / rows["student", *OWN]["tokens_per_s"]


def summary(cells: dict[Cell, Rows]) -> list[str]:
    """What the table comes to, in sentences."""
    found = [value for rows in cells.values() if (value := ratio(rows, RIVAL)) is not None]
    lines = []
    if found:
        lost = sum(value < 1 for value in found)
        lines.append(
            f"Against CTranslate2 int8: {geometric_mean(found):.2f} times as fast in the geometric mean of "
            f"{len(found)} cells, {min(found):.2f} to {max(found):.2f}; {lost} {'is' if lost == 1 else 'are'} lost."
        )
    for name, peer in (("Hugging Face `generate`", ("transformers", "fp32")), ("Optimum", ("optimum", "fp32"))):
        small, large = (
            [value for cell, rows in cells.items() if (cell[2] <= 8) == few and (value := ratio(rows, peer))]
            for few in (True, False)
        )
        if small and large:
            lines.append(
                f"Against {name}: at least {min(small):.1f} times as fast at batch 1 and 8, {min(large):.1f} above."
            )
    if memory := [value for rows in cells.values() if (value := ratio(rows, RIVAL, "memory_mb"))]:
        lines.append(f"Memory: {min(memory):.1f} to {max(memory):.1f} times that of CTranslate2 int8.")
    return [f"- {line}" for line in lines]


def factors(rows: Iterable[Row]) -> list[str]:
    """The student, greedy, one sentence a call, beside its teacher with several beams in CTranslate2."""
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        found.setdefault((row["shape"], row["data"]), {})[f"{row['model']} {row['precision']}"] = row
    lines = []
    for (shape, data), sides in found.items():
        student, exact, packed = (sides[name] for name in ("student int8", "teacher fp32", "teacher int8"))
        times = [student["sentences_per_s"] / one["sentences_per_s"] for one in (exact, packed)]
        score = "" if student["bleu"] is None else f" ({student['bleu']:.1f} BLEU; teacher {exact['bleu']:.1f})"
        lines.append(
            f"- {shape} on {data}, one sentence a call, in turns: the greedy int8 student translates {times[0]:.1f} "
            f"times as many sentences a second as its teacher with five beams in CTranslate2 fp32, {times[1]:.1f} "
            f"times as in CTranslate2 int8{score}."
        )
    return lines


def geometric_mean(values: Sequence[float]) -> float:
    """Of positive numbers."""
    return math.exp(sum(map(math.log, values)) / len(values))


def _shown(value: float | None, mark: str) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if value >= 1 else f"{mark}{value:.2f}{mark}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks.peers_table", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="JSON of `python -m benchmarks.peers`")
    options = parser.parse_args(arguments)
    try:
        print(markdown(report.load(options.file)), end="")
    except CompressError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
