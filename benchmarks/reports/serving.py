"""The result of the measurements of servers as a Markdown table and as a plot of latency against load."""

from __future__ import annotations

from typing import Any

from benchmarks.measure.result_file import Row, Table
from benchmarks.reports import html
from benchmarks.reports.table import Column, grid_of, markdown_grid, measured_on

COLUMNS = (
    Column("model", "model"),
    Column("server", "server"),
    Column("texts_per_request", "texts a request", "d"),
    Column("concurrency", "clients", "d"),
    Column("sentences_per_s", "sentences/s", ",.1f"),
    Column("of_runtime", "of the runtime", ".0%"),
    Column("p50_ms", "p50 ms", ".1f"),
    Column("p90_ms", "p90 ms", ".1f"),
    Column("p99_ms", "p99 ms", ".1f"),
    Column("failed", "errors", "d"),
    Column("cpu_ms", "processor ms a text", ".2f"),
)
LATENCIES = (("p50_ms", "-"), ("p99_ms", "--"))


def markdown(table: Table) -> str:
    """A line for each closed loop; the runtime at its largest batch is what throughput is a share of."""
    rows = [_shown(row, table) for row in table["load"] if row["offered_rps"] is None]
    how = (
        "Closed loops, with the load generator on the same machine. The runtime is that of the bundle alone at batch "
        "32; processor time is the server's."
    )
    note = " ".join([how, *measured_on(table["provenance"].get("load", {}), "onnxruntime", "ctranslate2")])
    return f"{markdown_grid(grid_of(COLUMNS, rows))}\n\n{note}\n"


def plot_file(table: Table) -> str:
    """Latency against the rate of requests in open loops, as an SVG file. Raises DependencyError without matplotlib."""
    return html.figure_file(lambda: _figure(table["load"]))


def _figure(rows: list[Row]) -> Any:
    from matplotlib.figure import Figure

    curves: dict[tuple[str, str], list[Row]] = {}
    for row in sorted((row for row in rows if row["offered_rps"] is not None), key=lambda row: row["offered_rps"]):
        many = f", {row['texts_per_request']} texts" if row["texts_per_request"] > 1 else ""
        alone = "" if row["batching"] else ", no batching"
        curves.setdefault((row["model"], f"{row['server']}{many}{alone}"), []).append(row)
    models = list(dict.fromkeys(model for model, _ in curves))
    figure = Figure(figsize=(4.5 * max(1, len(models)), 4), layout="constrained")
    panels = figure.subplots(1, max(1, len(models)), sharey=True, squeeze=False)[0]
    for panel, model in zip(panels, models, strict=False):
        named = [(name, points) for (of, name), points in curves.items() if of == model]
        for place, (name, points) in enumerate(named):
            for key, line in LATENCIES:
                drawn = [(point["offered_rps"], point[key]) for point in points if point[key] is not None]
                label = f"{name} {key.removesuffix('_ms')}"
                panel.plot(*zip(*drawn, strict=True), line, marker="o", markersize=3, label=label,
                           color=html.COLOURS[place % len(html.COLOURS)])  # fmt: skip
        panel.set_title(model)
        panel.set_xlabel("requests a second, offered")
        panel.set_yscale("log")
        panel.grid(alpha=0.2)
        panel.legend(frameon=False, fontsize=8)
    panels[0].set_ylabel("latency from the intended start, ms")
    return figure


def _shown(row: Row, table: Table) -> Row:
    """Returns a row with its share of the runtime, its errors and processor time summed up."""
    runtime = table["runtime_sentences_per_s"].get(row["model"], {}).get("batch_32")
    server = [seconds for name, seconds in row["cpu_seconds"].items() if name != "client"]
    texts = row["sentences_per_s"] * row["seconds"]
    return row | {
        "of_runtime": row["sentences_per_s"] / runtime if runtime else None,
        "failed": sum(row["errors"].values()),
        "cpu_ms": 1000 * sum(server) / texts if server and texts else None,
    }
