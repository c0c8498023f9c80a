"""Dev scores of runs against the target tokens that they trained on, as a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.reports import html
from compressor.errors import DataError

Curve = Sequence[tuple[int, float]]
"""Target tokens and dev score."""


def plot_file(curves: Mapping[str, Curve]) -> str:
    """A line for each run, as an SVG file.

    Args:
        curves: by the run's name; a run without dev scores has no line.

    Raises:
        DataError: no run has a dev score with a count of tokens.
        DependencyError: matplotlib is missing.
    """
    drawn = {name: curve for name, curve in curves.items() if curve}
    if not drawn:
        raise DataError("nothing to draw: no run has a dev score with a count of target tokens")
    return html.figure_file(lambda: _figure(drawn))


def _figure(curves: Mapping[str, Curve]) -> Any:
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    panel = figure.subplots()
    for place, (name, curve) in enumerate(curves.items()):
        marker = html.MARKERS[place // len(html.COLOURS) % len(html.MARKERS)]
        colour = html.COLOURS[place % len(html.COLOURS)]
        panel.plot(*zip(*curve, strict=True), marker=marker, markersize=4, color=colour, label=name)
    panel.set_xlabel("target tokens")
    panel.set_ylabel("dev score")
    panel.xaxis.set_major_formatter(EngFormatter())
    panel.grid(alpha=0.2)
    panel.legend(frameon=False, fontsize=8)
    return figure
