"""The results on update costs and on batch independence as Markdown."""

from __future__ import annotations

from benchmarks.measure.result_file import Table
from benchmarks.reports.table import Column, grid_of, markdown_grid, measured_on

UPDATE_COST = (
    Column("method", "method"),
    Column("p50_ms", "p50 ms", ".1f"),
    Column("p90_ms", "p90 ms", ".1f"),
    Column("p99_ms", "p99 ms", ".1f"),
    Column("ratio", "over vanilla+full", ".2f"),
)
INDEPENDENCE = (
    Column("precision", "precision"),
    Column("num_beams", "beams", "d"),
    Column("batch_size", "batch", "d"),
    Column("sentences", "sentences", ",d"),
    Column("moved", "outputs that differ from those alone", "d"),
)


def update_cost(table: Table) -> str:
    """Returns a Markdown table of milliseconds an update, by method."""
    settings = table["settings"]
    lengths = (
        "Time of one update at β = 0, rollouts included: the student writes every context of both imitation methods. "
        f"On average a rollout has {settings['rollout_tokens']:g} tokens, a reference {settings['reference_tokens']:g}."
    )
    note = " ".join([lengths, *measured_on(table["provenance"], "torch")])
    return f"{markdown_grid(grid_of(UPDATE_COST, table['rows']))}\n\n{note}\n"


def batch_independence(table: Table) -> str:
    """Returns a Markdown table of the texts whose output in a batch differs from the one they have alone."""
    note = " ".join(measured_on(table["provenance"], "onnxruntime"))
    return f"{markdown_grid(grid_of(INDEPENDENCE, table['rows']))}\n\n{note}\n"
