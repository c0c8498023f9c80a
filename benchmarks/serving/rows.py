"""Rows of the result file from measured requests, and that file: ``benchmarks/results/serving.json``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.measure.result_file import Row, Table, load, write_json
from benchmarks.measure.timing import percentile
from benchmarks.serving.loops import OK, Window
from benchmarks.serving.processes import ProcessUsage
from compressor.errors import DataError
from compressor.provenance import provenance

EMPTY: Table = {"runtime_sentences_per_s": {}, "load": [], "overhead_ms": None, "overload": None, "soak": None}


def percentiles(window: Window, kind: str = OK) -> Row:
    """Returns the latencies of the requests that ended as ``kind``, in ms; None without any."""
    latencies = [outcome.seconds for outcome in window.outcomes if outcome.kind == kind]
    values = {f"p{q}_ms": percentile(latencies, q) * 1e3 if latencies else None for q in (50, 90, 99)}
    return {name: None if value is None else round(value, 2) for name, value in values.items()}


def load_row(
    window: Window,
    *,
    server: str,
    model: str,
    batching: bool,
    texts_per_request: int,
    concurrency: int | None,
    offered_rps: float | None,
    cpu_seconds: dict[str, float],
) -> Row:
    """Returns a row of ``load``.

    Args:
        window: The requests.
        server: ``compress``, ``libretranslate`` or ``fastapi-ctranslate2``.
        model: Label of the model.
        batching: Whether the server batches across requests.
        texts_per_request: Texts in each request.
        concurrency: Clients of a closed loop; None: an open loop.
        offered_rps: Requests a second of an open loop; None: a closed loop.
        cpu_seconds: Processor seconds during the window, by what used them.
    """
    rate = window.answered / (window.end - window.start)
    return {
        "server": server,
        "model": model,
        "batching": batching,
        "texts_per_request": texts_per_request,
        "concurrency": concurrency,
        "offered_rps": None if offered_rps is None else round(offered_rps, 2),
        "achieved_rps": round(rate, 2),
        "sentences_per_s": round(rate * texts_per_request, 2),
        **percentiles(window),
        "errors": errors(window),
        "cpu_seconds": cpu_seconds,
        "seconds": round(window.end - window.start, 2),
    }


def errors(window: Window) -> dict[str, int]:
    """Returns the number of requests of each kind but ``200``."""
    return dict(sorted(Counter(outcome.kind for outcome in window.outcomes if outcome.kind != OK).items()))


def cpu_seconds(before: ProcessUsage | None, after: ProcessUsage | None, client_seconds: float) -> dict[str, float]:
    """Returns processor seconds between two readings of a server; of the client alone where it could not be read."""
    used = {"client": client_seconds}
    if before is not None and after is not None:
        used["server_event_loop"] = after.main_seconds - before.main_seconds
        used["server_other_threads"] = after.other_seconds - before.other_seconds
    return {name: round(seconds, 2) for name, seconds in used.items()}


def saturation(rows: list[Row]) -> float:
    """Returns the highest rate of answered requests in closed loops; 0 without any."""
    return max((row["achieved_rps"] for row in rows if row["offered_rps"] is None), default=0.0)


def read_result(path: Path) -> Table:
    """Returns the content of a result file, or an empty one where there is none. Raises DataError for another file."""
    table = load(path) if path.exists() else {"provenance": {}, **EMPTY, "load": []}
    if "load" not in table:
        raise DataError(f"{path}: a result of another measurement; name another file")
    return table


def write_result(path: Path, part: str, content: Any, settings: dict[str, Any]) -> None:
    """Puts one part into a result file, whole or not at all.

    Rows of ``load`` replace those of the same server, model, batching and texts a request; entries by model replace
    those of that model.

    Args:
        path: The file, which is made where there is none.
        part: A key of ``EMPTY``.
        content: A list of rows for ``load``, entries for ``runtime_sentences_per_s``, else the value.
        settings: What the numbers depend on beside the machine.
    """
    table = read_result(path)
    if part == "load":
        new = {_key(row) for row in content}
        content = [row for row in table["load"] if _key(row) not in new] + content
    elif part in ("runtime_sentences_per_s", "overhead_ms") and isinstance(content, dict):
        content = {**(table[part] or {}), **content}
    made = {name: value for name, value in table["provenance"].items() if name != part}
    table |= {"provenance": {**made, part: {**provenance(), "settings": settings}}, part: content}
    write_json(table, path)


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("server", "model", "batching", "texts_per_request"))
