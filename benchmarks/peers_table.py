"""The table of peers as Markdown: ``python -m benchmarks.peers_table FILE``. How many times as fast, cell by cell."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import report
from compressor.errors import CompressError

Row = dict[str, Any]
Cell = tuple[str, str, int, int]

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


def markdown(table: dict[str, Any]) -> str:
    """A table of cells, then what it comes to. A cell that is lost is bold."""
    cells = by_cell(table["rows"])
    heads = ["shape", "data", "batch", "beams", "tokens/s", *PEERS.values()]
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join(['---', '---', *['---:'] * (len(heads) - 2)])} |"]
    for cell, rows in sorted(cells.items(), key=lambda item: (item[0][0], item[0][1], item[0][3], item[0][2])):
        own = rows["student", *OWN]["tokens_per_s"]
        ratios = [_shown(ratio(rows, peer)) for peer in PEERS]
        shape, data, batch, beams = cell
        lines.append(f"| {' | '.join([shape, data, str(batch), str(beams), f'{own:,.0f}', *ratios])} |")
    return "\n".join([*lines, "", *summary(cells)]) + "\n"


def by_cell(rows: Iterable[Row]) -> dict[Cell, dict[tuple[str, str, str], Row]]:
    """Rows by cell, then by model, engine and precision."""
    cells: dict[Cell, dict[tuple[str, str, str], Row]] = {}
    for row in rows:
        cell = (row["shape"], row["data"], row["batch_size"], row["num_beams"])
        cells.setdefault(cell, {})[row["model"], row["engine"], row["precision"]] = row
    return cells


def ratio(rows: dict[tuple[str, str, str], Row], peer: tuple[str, str], key: str = "tokens_per_s") -> float | None:
    """The int8 student's value over a peer's; None where the peer took no part."""
    other = rows.get(("student", *peer))
    return None if other is None or not other[key] else rows["student", *OWN][key] / other[key]


def summary(cells: dict[Cell, dict[tuple[str, str, str], Row]]) -> list[str]:
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
    lines += _teacher(cells)
    return [f"- {line}" for line in lines]


def _teacher(cells: dict[Cell, dict[tuple[str, str, str], Row]]) -> list[str]:
    """The student, greedy, one sentence a call, beside its teacher with five beams in CTranslate2."""
    lines = []
    for (shape, data, batch, beams), rows in sorted(cells.items()):
        greedy, searched = rows.get(("student", *OWN)), cells.get((shape, data, batch, 5), {})
        teachers = [searched.get(("teacher", "ctranslate2", precision)) for precision in ("fp32", "int8")]
        if (batch, beams) != (1, 1) or greedy is None or None in teachers:
            continue
        exact, packed = (greedy["sentences_per_s"] / one["sentences_per_s"] for one in teachers if one is not None)
        score = "" if greedy["bleu"] is None else f" ({greedy['bleu']:.1f} BLEU; teacher {teachers[0]['bleu']:.1f})"  # type: ignore[index]
        lines.append(
            f"{shape} on {data}, one sentence a call: the greedy int8 student translates {exact:.1f} times as many "
            f"sentences a second as its teacher with five beams in CTranslate2 fp32, {packed:.1f} times as in "
            f"CTranslate2 int8{score}."
        )
    return lines


def geometric_mean(values: Sequence[float]) -> float:
    """Of positive numbers."""
    return math.exp(sum(map(math.log, values)) / len(values))


def _shown(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if value >= 1 else f"**{value:.2f}**"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks.peers_table", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="JSON of `python -m benchmarks.peers`")
    options = parser.parse_args(arguments)
    try:
        print(markdown(report.load(options.file)), end="")
    except CompressError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
