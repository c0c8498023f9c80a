"""Measures how the time of a search grows along each axis: lengths, beams, batch, vocabulary, depth.

The points of an axis take turns with a base of random weights, and the core's rates are measured right before. The
result is written after every axis, and a measurement that was stopped continues where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from benchmarks.engines.random_model import SHAPES, Shape, random_bundle, random_texts
from benchmarks.measure.result_file import ResultFile, Row
from benchmarks.measure.timing import interleave, median, repeat
from benchmarks.roofline import rates
from benchmarks.roofline.analysis import point_of, rates_row
from benchmarks.roofline.work import WEIGHT_BYTES, Point
from compressor.errors import ModelError
from compressor.progress import Bar
from compressor.runtime.generator import Generator

PRECISIONS = tuple(WEIGHT_BYTES)
BASE = Point(*SHAPES["6+2-256"], source_tokens=25, target_tokens=25, batch_size=1, num_beams=1)
DEV_SOURCES = 4
"""Sources for calibration: quality does not matter here."""
VALUES: dict[str, tuple[str, tuple[int, ...]]] = {
    "output tokens": ("target_tokens", (5, 10, 25, 50, 100)),
    "source tokens": ("source_tokens", (5, 10, 25, 50, 100)),
    "beams": ("num_beams", (1, 2, 5, 10)),
    "batch": ("batch_size", (1, 8, 32, 64)),
    "vocabulary": ("vocab_size", (2_000, 8_000, 32_000)),
    "encoder layers": ("encoder_layers", (1, 2, 6, 12)),
    "decoder layers": ("decoder_layers", (1, 2, 6)),
}
"""Axis to the field that varies along it, and its values."""
AXES = {
    **{axis: [BASE._replace(**{field: value}) for value in values] for axis, (field, values) in VALUES.items()},
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
"""The last tells apart terms that grow together along every axis."""


class Effort(NamedTuple):
    """How long is measured: turns of each point, least seconds of a turn, and seconds of each of the core's rates."""

    rounds: int = 9
    turn_s: float = 0.12
    rate_s: float = 0.1


QUICK = Effort(rounds=3, turn_s=0.03, rate_s=0.03)

Search = Callable[[], object]


def open_search(folder: Path, point: Point, precision: str) -> Search:
    """A point's call on one thread, on a bundle of random weights that is made in ``folder`` when it is first needed.

    Raises:
        ModelError: an output is not as long as the point says.
    """
    shape = Shape(*point[: len(Shape._fields)])
    name = f"{shape.encoder_layers}+{shape.decoder_layers}-{shape.d_model}-{shape.vocab_size}"
    _, bundle = random_bundle(shape, folder / name, dev_sources=DEV_SOURCES, tokens=BASE.source_tokens)
    generator = _generator(bundle, precision)
    texts = random_texts(shape.vocab_size, point.batch_size, point.source_tokens, seed=3)
    search = partial(
        generator.generate_ids,
        [generator.tokenizer.encode_source(text) for text in texts],
        batch_tokens=point.batch_size * point.source_tokens,
        num_beams=point.num_beams,
        max_new_tokens=point.target_tokens,
    )
    if wrong := [len(output) for output in search() if len(output) != point.target_tokens]:
        raise ModelError(f"an output of random weights has {wrong[0]} tokens, not {point.target_tokens}")
    return search


@lru_cache(maxsize=2 * 5)  # precisions times the most bundles of an axis
def _generator(bundle: Path, precision: str) -> Generator:
    return Generator.load(bundle, precision=precision, intra_threads=1, inter_threads=1)


def measure_axis(
    axis: str, points: Sequence[Point], search: Callable[[Point, str], Search], effort: Effort
) -> list[Row]:
    """The rows of an axis: every point in every precision takes turns with all the rest and with the base."""
    keys = [(point, precision) for point in dict.fromkeys([BASE, *points]) for precision in PRECISIONS]
    probes = {key: partial(_turn, search(*key)) for key in keys}
    samples = interleave(probes, [effort.turn_s], repeats=effort.rounds)
    ms = {key: round(median(turns) * 1e3, 4) for key, (turns,) in samples.items()}
    return [
        {"axis": axis, **point._asdict(), "precision": one, "p50_ms": ms[point, one], "base_ms": ms[BASE, one]}
        for point in points
        for one in PRECISIONS
    ]


def _turn(search: Search, seconds: float) -> float:
    """Median seconds of a call; in the first of a turn the caches hold another model's weights."""
    return median(repeat(search, seconds))


def missing(rows: Iterable[Row]) -> dict[str, list[Point]]:
    """Points by axis that are not among the rows in every precision."""
    known = {(row["axis"], row["precision"], *point_of(row)) for row in rows}
    left = {
        axis: [point for point in points if any((axis, one, *point) not in known for one in PRECISIONS)]
        for axis, points in AXES.items()
    }
    return {axis: points for axis, points in left.items() if points}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="result; continued if it is there")
    parser.add_argument("--work", type=Path, default=Path("roofline"), metavar="DIR", help="for runs and bundles")
    parser.add_argument("--quick", action="store_true", help="few and short rounds")


def run(options: argparse.Namespace) -> None:
    """Measures the points that the result file lacks."""
    effort = QUICK if options.quick else Effort()
    settings = {"quick": options.quick, **effort._asdict()}
    file = ResultFile(options.json, "roofline", settings, {"base": BASE._asdict(), "rates": []})
    if left := missing(file.table["rows"]):
        file.check_quick()
    with Bar(Console(stderr=True), True) as bar:
        advance = bar.start("axes", len(left))
        for axis, points in left.items():
            rate = {"axis": axis, **rates_row(rates.measure(effort.rate_s))}
            rows = measure_axis(axis, points, partial(open_search, options.work), effort)
            file.write(rates=[*file.table["rates"], rate], rows=[*file.table["rows"], *rows])
            advance()
