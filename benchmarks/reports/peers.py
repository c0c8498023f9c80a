"""The table of peers as Markdown: how many times as fast as each peer, cell by cell."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from benchmarks.engines.base import TEACHER
from benchmarks.engines.registry import ENGINES, OWN, RIVAL
from benchmarks.latency.contenders import STUDENT
from benchmarks.latency.grid import full_precision
from benchmarks.measure.result_file import Row, Table
from benchmarks.reports.table import measured_on
from compressor.bundle import SHORTLIST

Cell = tuple[str, str, int, int]
Rows = dict[tuple[str, str, str], Row]
"""Rows of a cell, by model, engine and precision."""

HEADLINE = "int8"
"""Precision of the bundle that is compared with the peers."""
PEERS = {(name, precision): title for name, engine in ENGINES.items() for precision, title in engine.columns.items()}
"""Engine and precision to the title of its column."""
PRECISIONS = {"fp32": "fp32", "int4": "int4", f"int8{SHORTLIST}": "int8 and shortlist"}
"""The bundle's other precisions, to the titles of their columns."""


def markdown(table: Table) -> str:
    """Returns Markdown: a table of cells, bold where ours is slower, a summary, and a table of other precisions."""
    cells, provenance = by_cell(table["rows"]), table.get("provenance", {})
    beside = _table(cells, {name: partial(ratio, peer=peer) for peer, name in PEERS.items()}, mark="**")
    other = "The bundle's other precisions: tokens a second over those of int8."
    precisions = _table(
        cells, {name: partial(_speed_over_int8, precision=precision) for precision, name in PRECISIONS.items()}
    )
    parts = [*beside, "", *summary(cells), *factors(table.get("factors", [])), "", other, "", *precisions]
    measured = measured_on(provenance, "onnxruntime", "ctranslate2", "torch", "transformers")
    return "\n".join([*parts, *(["", *measured] if measured else [])]) + "\n"


def _table(cells: dict[Cell, Rows], columns: dict[str, Callable[[Rows], float | None]], mark: str = "") -> list[str]:
    """Returns the lines of a Markdown table, one for each cell; ``mark`` goes around ratios below one."""
    heads = ["shape", "data", "batch", "beams", "tokens/s", *columns]
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join(['---', '---', *['---:'] * (len(heads) - 2)])} |"]
    for cell, rows in sorted(cells.items(), key=lambda item: (item[0][0], item[0][1], item[0][3], item[0][2])):
        own = rows[STUDENT, OWN.name, HEADLINE]["tokens_per_s"]
        ratios = [_shown(column(rows), mark) for column in columns.values()]
        shape, data, batch, beams = cell
        lines.append(f"| {' | '.join([shape, data, str(batch), str(beams), f'{own:,.0f}', *ratios])} |")
    return lines


def by_cell(rows: Iterable[Row]) -> dict[Cell, Rows]:
    """Rows by cell, then by model, engine and precision."""
    cells: dict[Cell, Rows] = {}
    for row in rows:
        cell = (row["shape"], row["data"], row["batch_size"], row["num_beams"])
        cells.setdefault(cell, {})[row["model"], row["engine"], full_precision(row)] = row
    return cells


def ratio(rows: Rows, peer: tuple[str, str], key: str = "tokens_per_s") -> float | None:
    """The int8 student's value over a peer's; None where the peer was not measured."""
    row = rows.get((STUDENT, *peer))
    return None if row is None or not row[key] else rows[STUDENT, OWN.name, HEADLINE][key] / row[key]


def _speed_over_int8(rows: Rows, precision: str) -> float | None:
    """Tokens a second of another precision over those of int8; None where it was not measured."""
    row = rows.get((STUDENT, OWN.name, precision))
    return None if row is None else row["tokens_per_s"] / rows[STUDENT, OWN.name, HEADLINE]["tokens_per_s"]


def summary(cells: dict[Cell, Rows]) -> list[str]:
    """Means and extremes of the ratios, as sentences."""
    rival, title, lines = (RIVAL.name, HEADLINE), RIVAL.columns[HEADLINE], []
    if ratios := [value for rows in cells.values() if (value := ratio(rows, rival)) is not None]:
        lost, count = sum(value < 1 for value in ratios), len(ratios)
        lines.append(
            f"Against {title}: {geometric_mean(ratios):.2f} times as fast in the geometric mean of {count} settings, "
            f"{min(ratios):.2f} to {max(ratios):.2f}; slower in {lost or 'none'} of them."
        )
    for peer, name in PEERS.items():
        small, large = (
            [value for cell, rows in cells.items() if (cell[2] <= 8) == few and (value := ratio(rows, peer))]
            for few in (True, False)
        )
        if peer[0] != RIVAL.name and small and large:
            lines.append(
                f"Against {name}: at least {min(small):.1f} times as fast at batch 1 and 8, at least {min(large):.1f} "
                "times in larger batches."
            )
    if memory := [value for rows in cells.values() if (value := ratio(rows, rival, "memory_mb"))]:
        more = sum(value > 1 for value in memory)
        span = f"{min(memory):.1f} to {max(memory):.1f}"
        lines.append(f"Memory: {span} times that of {title}; more in {more} of {len(memory)}.")
    return [f"- {line}" for line in lines]


def factors(rows: Iterable[Row]) -> list[str]:
    """Sentences on the greedy student and its teacher with beams in the rival engine, one sentence a call."""
    sides: dict[tuple[str, str], dict[tuple[str, str], Row]] = {}
    for row in rows:
        sides.setdefault((row["shape"], row["data"]), {})[row["model"], row["precision"]] = row
    lines = []
    for (shape, data), side in sides.items():
        student, teacher = side[STUDENT, HEADLINE], side[TEACHER, "fp32"]
        faster = {
            name: student["sentences_per_s"] / side[TEACHER, name]["sentences_per_s"] for name in ("fp32", "int8")
        }
        score = "" if student["bleu"] is None else f" ({student['bleu']:.1f} BLEU; teacher {teacher['bleu']:.1f})"
        lines.append(
            f"- {shape} on {data}, one sentence a call, in turns: the greedy int8 student translates "
            f"{faster['fp32']:.1f} times as many sentences a second as its teacher with five beams in "
            f"{RIVAL.columns['fp32']}, {faster['int8']:.1f} times as in {RIVAL.columns['int8']}{score}."
        )
    return lines


def geometric_mean(values: Sequence[float]) -> float:
    """The geometric mean of positive numbers."""
    return math.exp(sum(map(math.log, values)) / len(values))


def _shown(value: float | None, mark: str) -> str:
    """Returns a ratio, marked where it is below one; a dash where it was not measured."""
    if value is None:
        return "–"
    return f"{value:.2f}" if value >= 1 else f"{mark}{value:.2f}{mark}"
