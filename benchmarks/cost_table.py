"""Shows what a search costs: as Markdown for docs/performance.md, and as a page with plots."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import page
from benchmarks.cost_model import FIELDS, GIGA, Model, model
from benchmarks.counts import WEIGHT_BYTES, Point, encoder, steps
from benchmarks.floors import MB
from benchmarks.report import Column, Grid, Row, grid_of, markdown_grid, measured_on

PRECISIONS = ("int8", "fp32")
TITLE = "What a search costs"
LABELS = {"batch_size": "batch", "num_beams": "beams", "source_tokens": "source", "target_tokens": "output",
          "vocab_size": "vocabulary", "encoder_layers": "encoder", "decoder_layers": "decoder"}  # fmt: skip
_UNITS = (("s", 1.0), ("ms", 1e3), ("µs", 1e6), ("ns", 1e9), ("ps", 1e12), ("fs", 1e15))


def markdown(table: dict[str, Any]) -> str:
    """Points, fit and rates as tables, with what they mean."""
    models = [model(table, precision) for precision in PRECISIONS]
    grids = points_grid(models), fit_grid(models), rates_grid(models[0])
    points, fitted, rates = map(markdown_grid, grids)
    parts = [points, *reading(models), fitted, *fit_notes(models), rates, *floor_notes(models)]
    return "\n\n".join([*parts, *made(table)]) + "\n"


def html(table: dict[str, Any]) -> str:
    """The same as a page, with a plot of time and of the share of the floor along every axis.

    Raises:
        DependencyError: matplotlib is missing.
    """
    models = [model(table, precision) for precision in PRECISIONS]
    drawing = page.draw(lambda: _figure(models), f"{TITLE}: time and share of the floor along every axis")
    grids = [("Points", points_grid(models)), ("Fit", fit_grid(models)), ("The core", rates_grid(models[0]))]
    sections = [(title, grid.heads, grid.numeric, grid.lines) for title, grid in grids]
    notes = [*reading(models), *fit_notes(models), *floor_notes(models), *made(table)]
    return page.render(TITLE, [("Along every axis", drawing)], sections, notes, table["provenance"])


def points_grid(models: list[Model]) -> Grid:
    """A line for each point, precisions side by side."""
    columns = [Column("axis", "varied"), Column("value", "value")]
    for one in models:
        name = one.precision
        columns += [Column(f"{name} ms", f"{name} ms", ".2f"), Column(f"{name} ratio", "of base", ".2f")]
        columns += [Column(f"{name} error", "fit", "+.0%"), Column(f"{name} share", "floor", ".0%")]
        columns += [Column(f"{name} bound", "by")]
    rows = []
    for lines in zip(*(one.lines for one in models), strict=True):
        row = {"axis": lines[0].axis, "value": label(lines[0].axis, lines[0].point, models[0].base)}
        for one, line in zip(models, lines, strict=True):
            bound = "reading" if line.floor.reading > line.floor.multiplying else "multiplying"
            cells = {"ms": 1e3 * line.seconds, "ratio": line.ratio, "error": line.error, "share": line.share}
            row |= {f"{one.precision} {key}": value for key, value in {**cells, "bound": bound}.items()}
        rows.append(row)
    return grid_of(columns, rows)


def label(axis: str, point: Point, base: Point) -> str:
    """Where a point lies on its axis; what differs from the base where several things do."""
    if axis in FIELDS:
        return f"{getattr(point, FIELDS[axis]):,}"
    pairs = zip(Point._fields, point, base, strict=True)
    return ", ".join(f"{LABELS[field]} {value:,}" for field, value, other in pairs if value != other)


def fit_grid(models: list[Model]) -> Grid:
    """A line for each term: what one of it takes, and the range of that when an axis is left out."""
    heads = {"s": "", "range": ", an axis left out", "least": ", the core's best"}
    columns = [Column("term", "one")]
    for one in models:
        columns += [Column(f"{one.precision} {key}", one.precision + head, "s") for key, head in heads.items()]
    rows = []
    for term in models[0].fit.coefficients:
        row: Row = {"term": term}
        for one in models:
            low, high = one.fit.ranges[term]
            row[f"{one.precision} s"] = duration(one.fit.coefficients[term])
            row[f"{one.precision} range"] = f"{duration(low)} to {duration(high)}"
            row[f"{one.precision} least"] = duration(least[term]) if term in (least := _least(one)) else None
        rows.append(row)
    return grid_of(columns, rows)


def _least(one: Model) -> dict[str, float]:
    """Seconds of what the core's rates say something of, at the base."""
    product, step = 1 / one.rates.products[one.precision], next(steps(one.base))
    weight = WEIGHT_BYTES[one.precision] / one.rates.reading(step.bytes(one.precision))
    return {
        "encoder multiply-add": product,
        "weight of a step": weight,
        "step multiply-add": product,
        "attention multiply-add": 1 / one.rates.products["fp32"],
    }


def duration(seconds: float) -> str:
    """Three digits in a unit that leaves at least one before the point."""
    rounded = float(f"{seconds:.3g}")
    unit, factor = next(((unit, factor) for unit, factor in _UNITS if rounded * factor >= 0.999999), _UNITS[-1])
    return f"{float(f'{rounded * factor:.3g}'):g} {unit}" if seconds else "0"


def rates_grid(one: Model) -> Grid:
    """The core's rates."""
    reads = {f"reads {size} MB": f"{rate / GIGA:.1f} GB/s" for size, rate in one.rates.bandwidth.items()}
    multiplies = {f"multiplies {name}": f"{rate / GIGA:.1f} G/s" for name, rate in one.rates.products.items()}
    both = {**reads, **multiplies}
    return Grid(["the core", *both], [False, *[True] * len(both)], [["best", *both.values()]])


def reading(models: list[Model]) -> list[str]:
    """What the columns of the points are."""
    base = models[0].base
    return [
        f"The base has {base.encoder_layers}+{base.decoder_layers} layers, d {base.d_model}, feed-forward layers of "
        f"{base.ffn:,}, a vocabulary of {base.vocab_size:,}, {base.source_tokens} tokens in and {base.target_tokens} "
        f"out, batch {base.batch_size}, {base.num_beams} beam; random weights, one thread. “of base”: the time over "
        "the base's in the same turns. “fit”: how far the formula below is from it. “floor”: the least time that the "
        "core's own rates allow, over the time; “by”: what the floor is made of."
    ]


def fit_notes(models: list[Model]) -> list[str]:
    """How well the formula fits, and what it makes of an axis that it has not seen."""
    notes = []
    for one in models:
        missed = ", ".join(f"{axis} {typical:.0%} ({worst:.0%})" for axis, (typical, worst) in one.fit.left_out.items())
        notes.append(
            f"Time is the sum of these, each as often as it occurs. {one.precision}: R² {one.fit.r_squared:.4f}, the "
            f"error is {one.fit.typical:.1%} in the median and {one.fit.worst:.0%} at worst. Fitted without an axis, "
            f"it misses that axis by (median, worst): {missed}."
        )
    return notes


def floor_notes(models: list[Model]) -> list[str]:
    """Which rate is whose floor, and the shares that are reached."""
    notes = []
    for one in models:
        first, step = encoder(one.base), next(steps(one.base))
        shares = [line.share for line in one.lines]
        memory = [line.floor.from_memory / line.seconds for line in one.lines]
        at_base = next(line for line in one.lines if line.point == one.base)
        size, near = step.bytes(one.precision), one.rates.reading(step.bytes(one.precision)) / GIGA
        notes.append(
            f"{one.precision}: a step of the base reads {size / MB:.1f} MB, the encoder "
            f"{first.bytes(one.precision) / MB:.1f} MB. A buffer of that size is read at {near:.1f} GB/s, memory at "
            f"{one.rates.memory / GIGA:.1f}: the floor takes the rate of the size. The base reaches "
            f"{at_base.share:.0%} of it, all points {min(shares):.0%} to {max(shares):.0%}. Were everything read from "
            f"memory, the floor of the base would be {at_base.floor.from_memory / at_base.seconds:.0%} of its time, of "
            f"all points {min(memory):.0%} to {max(memory):.0%}."
        )
    return notes


def made(table: dict[str, Any]) -> list[str]:
    """Effort, machine, date."""
    told = table["provenance"].get("cost") or {}
    hurried = " In a hurry (`--quick`): not to be quoted." if told.get("quick") else ""
    rounds = f"Medians of {told['rounds']} turns of {told['turn_s']:g} s." if told else ""
    return [" ".join([rounds + hurried, *measured_on(table["provenance"], "onnxruntime")]).strip()]


def _figure(models: list[Model]) -> Any:
    """Two panels for each axis, one above the other: time with the fitted line, and the share of the floor."""
    from matplotlib.figure import Figure

    columns, axes = 4, list(FIELDS)
    bands = -(-len(axes) // columns)
    figure = Figure(figsize=(3.1 * columns, 5.2 * bands), layout="constrained")
    panels = figure.subplots(2 * bands, columns, squeeze=False)
    for panel in panels.flat:
        panel.set_visible(False)
    for index, axis in enumerate(axes):
        band, column = divmod(index, columns)
        for colour, one in zip(page.COLOURS, models, strict=False):
            _draw(panels[2 * band][column], panels[2 * band + 1][column], axis, one, colour)
        panels[2 * band][column].set_title(axis, fontsize=11)
    for band in range(bands):
        panels[2 * band][0].set_ylabel("ms a call")
        panels[2 * band + 1][0].set_ylabel("share of the floor")
    handles, texts = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=len(texts), frameon=False)
    return figure


def _draw(times: Any, shares: Any, axis: str, one: Model, colour: str) -> None:
    lines = [line for line in one.lines if line.axis == axis]
    along = [getattr(line.point, FIELDS[axis]) for line in lines]
    between = list(_between(min(along), max(along)))
    points = [one.base._replace(**{FIELDS[axis]: value}) for value in between]
    times.plot(along, [1e3 * line.seconds for line in lines], "o", color=colour, label=one.precision)
    times.plot(between, [1e3 * one.predict(point) for point in points], "-", color=colour, label="fit")
    times.plot(between, [1e3 * one.floor(point).seconds for point in points], ":", color=colour, label="floor")
    shares.plot(along, [line.share for line in lines], "o-", color=colour)
    times.set_yscale("log")
    times.yaxis.set_major_formatter("{x:g}")
    times.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
    shares.set_ylim(0, max(1.0, shares.get_ylim()[1]))
    shares.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    for panel in (times, shares):
        panel.set_visible(True)
        panel.set_xscale("log")
        panel.set_xticks(along, [f"{value:,}" for value in along], minor=False)
        panel.set_xticks([], minor=True)
        panel.grid(alpha=0.2)


def _between(low: int, high: int) -> Iterator[int]:
    """Some 40 whole numbers, evenly spaced on a logarithmic axis."""
    yield from np.unique(np.geomspace(low, high, 40).round().astype(int)).tolist()
