"""The results on training costs and on batch independence as Markdown."""

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
THROUGHPUT = (
    Column("name", "method"),
    Column("tokens_per_s", "target tokens/s", ",d"),
    Column("ratio", "of MarianMT", ".2f"),
    Column("peak_mb", "memory MB", ",d"),
)
START = (
    Column("command", "command"),
    Column("start", "start"),
    Column("examples", "examples", ",d"),
    Column("seconds", "seconds", ".1f"),
    Column("cpu_seconds", "processor seconds", ".1f"),
    Column("peak_mb", "memory MB", ",d"),
    Column("load_average", "load before", ".1f"),
)
SCANS = (
    Column("student", "student"),
    Column("implementation", "recurrence"),
    Column("p50_ms", "p50 ms", ".2f"),
    Column("p90_ms", "p90 ms", ".2f"),
    Column("ratio", "over the first", ".2f"),
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
    precision = settings["precision"].replace("no", "fp32")
    labels = f", a label {settings['label_tokens']:g}" if "label_tokens" in settings else ""
    lengths = (
        f"Time of one update with {settings['threads']} thread(s) in {precision} at β = 0, rollouts included: the "
        "student writes every context of both imitation methods. "
        + ("seqkd reads labels, whose time is not included. " if labels else "")
        + f"On average a rollout has {settings['rollout_tokens']:g} tokens{labels}, a reference "
        f"{settings['reference_tokens']:g}."
    )
    note = " ".join([lengths, *measured_on(table["provenance"], "torch")])
    return f"{markdown_grid(grid_of(UPDATE_COST, table['rows']))}\n\n{note}\n"


def training_throughput(table: Table) -> str:
    """Target tokens a second by method, beside MarianMT of `transformers`."""
    settings = table["settings"]
    how = (
        f"Updates with {settings['threads']} thread(s) in {settings['precision'].replace('no', 'fp32')}, ImitKD at β = "
        "0 with its rollouts; rollouts alone count the tokens written. MarianMT: that of `transformers`, of the same "
        "shape, on the same batches. Memory: peak of a process that does one of these."
    )
    beside = f" Beside other work: the load average before was {settings['load_average']:g}."
    note = " ".join(
        [how + (beside if settings["load_average"] >= 1 else ""), *measured_on(table["provenance"], "torch")]
    )
    return f"{markdown_grid(grid_of(THROUGHPUT, table['rows']))}\n\n{note}\n"


def corpus_start(table: Table) -> str:
    """Seconds and memory until a run's first batch."""
    how = (
        "From the command to the first batch, imports included; memory of all processes together. `train` trains a "
        "tokenizer, too. Load before: processes that ran or waited, of other work."
    )
    note = " ".join([how, *measured_on(table["provenance"], "torch")])
    return f"{markdown_grid(grid_of(START, table['rows']))}\n\n{note}\n"


def scan_cost(table: Table) -> str:
    """Returns a Markdown table of milliseconds of a recurrence, forward and backward."""
    sizes = table["settings"]
    how = (
        f"Forward and backward pass of {sizes['batch']} x {sizes['length']} x {sizes['width']} numbers, fp32, "
        f"{sizes['threads']} thread(s)."
    )
    note = " ".join([how, *measured_on(table["provenance"], "torch")])
    return f"{markdown_grid(grid_of(SCANS, table['rows']))}\n\n{note}\n"


def batch_independence(table: Table) -> str:
    """Returns a Markdown table of the texts whose output in a batch differs from the one they have alone."""
    note = " ".join(measured_on(table["provenance"], "onnxruntime"))
    return f"{markdown_grid(grid_of(INDEPENDENCE, table['rows']))}\n\n{note}\n"
