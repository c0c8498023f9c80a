"""The result of the measurements of servers as Markdown tables and as a plot of latency against load."""

from __future__ import annotations

from typing import Any

from benchmarks.measure.result_file import Row, Table
from benchmarks.measure.timing import growth
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
    Column("event_loop_ms", "event loop ms a text", ".2f"),
    Column("threads_ms", "other threads ms a text", ".2f"),
)
FIGURES = (Column("what", "figure"), Column("model", "model"), Column("value", "measured"))
LATENCIES = (("p50_ms", "-"), ("p99_ms", "--"))


def markdown(table: Table) -> str:
    """A line for each closed loop, with throughput as a share of the runtime's at batch 32; then single figures."""
    rows = [_shown(row, table) for row in table["load"] if row["offered_rps"] is None]
    how = (
        "Closed loops, with the load generator on the same machine. The runtime is that of the bundle alone at batch "
        "32; the last columns are processor time of the server."
    )
    note = " ".join([how, *measured_on(table["provenance"].get("load", {}), "onnxruntime", "ctranslate2")])
    tables = [markdown_grid(grid_of(COLUMNS, rows)), note]
    if figures := [*_of_models(table), *_of_overload(table), *_of_soak(table)]:
        tables.append(markdown_grid(grid_of(FIGURES, figures)))
    return "\n\n".join(tables) + "\n"


def _of_models(table: Table) -> list[Row]:
    """Figures of each model: what HTTP adds, what batching gives, and latency at half of the highest load."""
    figures = []
    for model, runtime in table["runtime_sentences_per_s"].items():
        ours = [row for row in table["load"] if (row["server"], row["model"]) == ("compress", model)]
        single = [row for row in ours if row["texts_per_request"] == 1]
        closed = {row["concurrency"]: row for row in single if row["offered_rps"] is None}
        for server, added in (table["overhead_ms"] or {}).get(model, {}).items():
            figures.append((f"HTTP adds to a text alone, median: {server}", model, f"{added:.2f} ms"))
        if {1, 32} <= closed.keys():
            gain = closed[32]["sentences_per_s"] / closed[1]["sentences_per_s"]
            share = gain / (runtime["batch_32"] / runtime["batch_1"])
            what = "gain from 1 to 32 clients, as a share of the runtime's from batch 1 to 32"
            figures.append((what, model, f"{gain:.2f} times, {share:.0%}"))
        if 1 in closed and (half := _at_half(single)):
            what = "p99 at half of the highest load, in p50 of an idle server"
            figures.append((what, model, f"{half['p99_ms'] / closed[1]['p50_ms']:.1f}"))
    return [dict(zip(("what", "model", "value"), figure, strict=True)) for figure in figures]


def _at_half(rows: list[Row]) -> Row | None:
    """Returns the open loop at half of the rate that the closed loops reach, if there is one."""
    half = max(row["achieved_rps"] for row in rows if row["offered_rps"] is None) / 2
    near = [row for row in rows if row["offered_rps"] is not None and abs(row["offered_rps"] / half - 1) < 0.05]
    return near[0] if near else None


def _of_overload(table: Table) -> list[Row]:
    overload = table["overload"]
    if overload is None:
        return []
    times = overload["offered_rps"] / overload["capacity_rps"]
    after = f"{overload['idle']['p50_ms']:.1f} and {overload['after']['p50_ms']:.1f} ms"
    return [
        {"what": f"{times:g} times the capacity for {overload['seconds']:g} s: p99 of admitted requests", "value":
         f"{overload['admitted']['p99_ms']:.0f} ms"},
        {"what": "p99 of refused ones", "value": f"{overload['refused']['p99_ms']:.1f} ms"},
        {"what": "p50 of an idle server before, and a second after", "value": after},
    ]  # fmt: skip


def _of_soak(table: Table) -> list[Row]:
    soak = table["soak"]
    if soak is None:
        return []
    what = f"{soak['minutes']:g} minutes of mixed load, {soak['requests']:,} requests: memory, threads, open files"
    grown = ", ".join(f"{growth(soak[name]):+.1%}" for name in ("rss_mb", "threads", "fds"))
    return [{"what": what, "value": grown}]


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
    panels[0].set_ylabel("latency from the intended start, ms")
    shown = {label: line for panel in panels for line, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _shown(row: Row, table: Table) -> Row:
    """Returns a row with its share of the runtime, its errors and processor time summed up."""
    runtime = table["runtime_sentences_per_s"].get(row["model"], {}).get("batch_32")
    texts = row["sentences_per_s"] * row["seconds"]
    used = {
        f"{what}_ms": 1000 * row["cpu_seconds"][name] / texts if texts and name in row["cpu_seconds"] else None
        for what, name in (("event_loop", "server_event_loop"), ("threads", "server_other_threads"))
    }
    return row | used | {
        "of_runtime": row["sentences_per_s"] / runtime if runtime else None,
        "failed": sum(row["errors"].values()),
    }  # fmt: skip
