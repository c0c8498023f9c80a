"""How the time of a search grows, and what share of the hardware's floor it reaches.

``python -m benchmarks.cost --json FILE`` starts from one model of random weights and one call and varies one axis at a
time: output and source length, beams, batch, vocabulary, depth. The points of an axis take turns with the base, and
right before them the core's own rates are measured. What is measured is written after every axis: a run that was
stopped goes on where it was. ``--markdown`` and ``--html`` show a file, measured now or before.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from benchmarks import cost_table, floors, report
from benchmarks.cost_model import FIELDS, point_of, rates_row
from benchmarks.counts import Point
from benchmarks.report import Row
from benchmarks.shapes import SHAPES, Shape, random_bundle, random_texts
from benchmarks.timing import interleave, median, repeat
from compressor.errors import CompressError, ConfigError, ModelError
from compressor.files import write_atomic
from compressor.progress import Bar
from compressor.provenance import provenance
from compressor.runtime.generator import Generator

BASE = Point(*SHAPES["6+2-256"], source_tokens=25, target_tokens=25, batch_size=1, num_beams=1)
DEV_SOURCES = 4
"""Nobody reads what random weights write: few sources are enough for their scales."""


VALUES = {
    "output tokens": (5, 10, 25, 50, 100),
    "source tokens": (5, 10, 25, 50, 100),
    "beams": (1, 2, 5, 10),
    "batch": (1, 8, 32, 64),
    "vocabulary": (2_000, 8_000, 32_000),
    "encoder layers": (1, 2, 6, 12),
    "decoder layers": (1, 2, 6),
}
AXES = {
    **{axis: [BASE._replace(**{FIELDS[axis]: value}) for value in values] for axis, values in VALUES.items()},
    "several at once": [
        BASE._replace(target_tokens=5, encoder_layers=1),
        BASE._replace(target_tokens=5, encoder_layers=12),
        BASE._replace(target_tokens=100, source_tokens=100),
        BASE._replace(batch_size=8, num_beams=5),
        BASE._replace(batch_size=32, num_beams=5),
        BASE._replace(batch_size=32, source_tokens=50, target_tokens=50),
        BASE._replace(batch_size=8, vocab_size=32_000),
        BASE._replace(num_beams=5, vocab_size=32_000),
        BASE._replace(batch_size=8, decoder_layers=6, num_beams=2),
    ],
}
"""The last is no axis: it tells terms apart that grow together along an axis, and whether what the axes say adds up."""


class Effort(NamedTuple):
    """How long is measured."""

    rounds: int = 9
    """Turns of each point."""
    turn_s: float = 0.12
    """Least seconds of a turn, in which a point is called again and again."""
    rate_s: float = 0.1
    """Of each buffer and product, for the core's rates."""


QUICK = Effort(rounds=3, turn_s=0.03, rate_s=0.03)

Search = Callable[[], object]


class Bundles:
    """Bundles of random weights in a folder, made when they are first needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def search(self, point: Point, precision: str) -> Search:
        """A point's call on one thread. Sources differ, and every output is as long as it may be."""
        shape = Shape(*point[: len(Shape._fields)])
        name = f"{shape.encoder_layers}+{shape.decoder_layers}-{shape.d_model}-{shape.vocab_size}"
        _, bundle = random_bundle(shape, self.folder / name, dev_sources=DEV_SOURCES, tokens=BASE.source_tokens)
        generator = _generator(bundle, precision)
        texts = random_texts(shape.vocab_size, point.batch_size, point.source_tokens, seed=3)
        sources = [generator.tokenizer.encode_source(text) for text in texts]
        call = partial(
            generator.generate_ids,
            sources,
            batch_tokens=point.batch_size * point.source_tokens,
            num_beams=point.num_beams,
            max_new_tokens=point.target_tokens,
        )
        _check_lengths(point, call())
        return call


@lru_cache(maxsize=2 * 5)  # the most that an axis has
def _generator(bundle: Path, precision: str) -> Generator:
    return Generator.load(bundle, precision=precision, intra_threads=1, inter_threads=1)


def _check_lengths(point: Point, outputs: Sequence[Sequence[int]]) -> None:
    if wrong := [len(output) for output in outputs if len(output) != point.target_tokens]:
        raise ModelError(f"an output of random weights has {wrong[0]} tokens, not {point.target_tokens}")


def measure_axis(
    axis: str, points: Sequence[Point], search: Callable[[Point, str], Search], effort: Effort
) -> list[Row]:
    """The rows of an axis: every point in every precision takes turns with all others and with the base."""
    keys = [(point, precision) for point in dict.fromkeys([BASE, *points]) for precision in cost_table.PRECISIONS]
    probes = {key: partial(_turn, search(*key)) for key in keys}
    samples = interleave(probes, [effort.turn_s], repeats=effort.rounds)
    seconds = {key: median(found) for key, (found,) in samples.items()}
    return [
        {
            "axis": axis,
            **point._asdict(),
            "precision": precision,
            "p50_ms": round(seconds[point, precision] * 1e3, 4),
            "base_ms": round(seconds[BASE, precision] * 1e3, 4),
        }
        for point in points
        for precision in cost_table.PRECISIONS
    ]


def _turn(search: Search, seconds: float) -> float:
    """Median seconds of a call; the first of a turn finds other weights in the caches."""
    return median(repeat(search, seconds))


def missing(rows: Iterable[Row]) -> dict[str, list[Point]]:
    """Points by axis that are not among the rows in every precision."""
    known = {(row["axis"], row["precision"], *point_of(row)) for row in rows}
    left = {
        axis: [point for point in points if any((axis, one, *point) not in known for one in cost_table.PRECISIONS)]
        for axis, points in AXES.items()
    }
    return {axis: points for axis, points in left.items() if points}


def measure(
    left: dict[str, list[Point]], search: Callable[[Point, str], Search], effort: Effort
) -> Iterator[tuple[list[Row], Row]]:
    """Axis by axis: its rows, and the core's rates as they were right before."""
    for axis, points in left.items():
        rates = floors.measure(effort.rate_s)
        yield measure_axis(axis, points, search, effort), {"axis": axis, **rates_row(rates)}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks.cost", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="result; goes on where it was")
    parser.add_argument("--html", type=Path, metavar="OUT", help="write a page with plots")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--work", type=Path, default=Path("cost"), metavar="DIR", help="for runs and bundles")
    parser.add_argument("--quick", action="store_true", help="few and short rounds")
    options = parser.parse_args(arguments)
    try:
        table = _run(options)
        if options.markdown:
            print(cost_table.markdown(table), end="")
        if options.html:
            write_atomic(options.html, cost_table.html(table))
    except CompressError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> dict[str, Any]:
    """The complete table; what was measured is written as it comes."""
    effort = QUICK if options.quick else Effort()
    empty: dict[str, Any] = {"base": BASE._asdict(), "rates": [], "rows": [], "provenance": {}}
    table = report.load(options.json) if options.json.exists() else empty
    left = missing(table["rows"])
    if not left:
        return table
    told = {"quick": options.quick, **effort._asdict()}
    if (before := table["provenance"].get("cost", told)) != told:
        raise ConfigError(f"{options.json}: was made {'with' if before['quick'] else 'without'} --quick; name another")
    earlier = [*table["provenance"].pop("earlier", []), table["provenance"]] if table["rows"] else []
    with Bar(Console(stderr=True), True) as bar:
        advance = bar.start("axes", len(left))
        for rows, rates in measure(left, Bundles(options.work).search, effort):
            made = {**provenance(), "cost": told, "earlier": earlier}
            found = {"rates": [*table["rates"], rates], "rows": [*table["rows"], *rows]}
            table = {"provenance": made, "base": table["base"], **found}
            report.write_json(table, options.json)
            advance()
    return table


if __name__ == "__main__":
    sys.exit(main())
