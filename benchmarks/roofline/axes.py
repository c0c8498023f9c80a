"""Measures how the time of a search grows along each axis: lengths, beams, batch, vocabulary, depth.

The points of an axis take turns with a base of random weights, and the core's rates are measured right before. The
result is written after every axis, and a measurement that was stopped continues with the axes that it lacks.
"""

from __future__ import annotations

import argparse
from functools import lru_cache, partial
from pathlib import Path

from rich.console import Console

from benchmarks.engines.random_model import SHAPES, Shape, random_bundle, random_texts
from benchmarks.measure.result_file import ResultFile, Row
from benchmarks.measure.timing import Probe, interleave, median, repeat
from benchmarks.roofline import rates
from benchmarks.roofline.work import WEIGHT_BYTES, Point
from compressor.errors import ModelError
from compressor.progress import Bar
from compressor.runtime.generator import Generator

PRECISIONS = tuple(WEIGHT_BYTES)
BASE = Point(*SHAPES["6+2-256"], source_tokens=25, target_tokens=25, batch_size=1, num_beams=1)
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
AXES = {axis: [BASE._replace(**{field: value}) for value in values] for axis, (field, values) in VALUES.items()}
AXES["several at once"] = [  # tells apart terms that grow together along every other axis
    BASE._replace(target_tokens=5, encoder_layers=1),
    BASE._replace(target_tokens=5, encoder_layers=12),
    BASE._replace(target_tokens=100, source_tokens=100),
    BASE._replace(batch_size=8, num_beams=5),
    BASE._replace(batch_size=32, num_beams=5),
    BASE._replace(batch_size=32, source_tokens=50, target_tokens=50),
    BASE._replace(batch_size=8, vocab_size=32_000),
    BASE._replace(num_beams=5, vocab_size=32_000),
    BASE._replace(batch_size=8, decoder_layers=6, num_beams=2),
]

ROUNDS, QUICK_ROUNDS = 9, 3
"""Turns of each point."""
TURN_S, RATE_S = 0.12, 0.1
"""Least seconds of a turn, and seconds of each of the core's rates."""
load = lru_cache(maxsize=2 * 5)(partial(Generator.load, intra_threads=1, inter_threads=1))
"""Loads a bundle in a precision, once; an axis has at most five bundles."""


def open_search(folder: Path, point: Point, precision: str) -> Probe[float]:
    """A turn of a point's search on one thread: its median seconds when it is repeated for so many seconds.

    The bundle of random weights is made in ``folder`` unless it is there. The median, because in the first call of a
    turn the caches hold another model's weights.

    Raises:
        ModelError: an output is not as long as the point says.
    """
    shape = Shape(*point[: len(Shape._fields)])
    _, bundle = random_bundle(shape, folder / "-".join(map(str, shape)), dev_sources=4, tokens=BASE.source_tokens)
    generator = load(bundle, precision=precision)
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
    return lambda seconds: median(repeat(search, seconds))


def measure_axis(axis: str, folder: Path, rounds: int) -> list[Row]:
    """The rows of an axis: every point in every precision takes turns with all the rest and with the base."""
    keys = [(point, precision) for point in dict.fromkeys([BASE, *AXES[axis]]) for precision in PRECISIONS]
    samples = interleave({key: open_search(folder, *key) for key in keys}, [TURN_S], repeats=rounds)
    ms = {key: round(median(turns) * 1e3, 4) for key, (turns,) in samples.items()}
    return [
        {"axis": axis, **point._asdict(), "precision": one, "p50_ms": ms[point, one], "base_ms": ms[BASE, one]}
        for point in AXES[axis]
        for one in PRECISIONS
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="result; continued if it is there")
    parser.add_argument("--work", type=Path, default=Path("roofline"), metavar="DIR", help="for runs and bundles")
    parser.add_argument("--quick", action="store_true", help="few rounds")


def run(options: argparse.Namespace) -> None:
    """Measures the axes that the result file lacks."""
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    settings = {"quick": options.quick, "rounds": rounds, "turn_s": TURN_S, "rate_s": RATE_S}
    file = ResultFile(options.json, "roofline", settings, {"base": BASE._asdict(), "rates": []})
    if left := [axis for axis in AXES if all(row["axis"] != axis for row in file.table["rows"])]:
        file.check_quick()
    with Bar(Console(stderr=True), True) as bar:
        advance = bar.start("axes", len(left))
        for axis in left:
            rate = {"axis": axis, **rates.measure(RATE_S)._asdict()}
            rows = measure_axis(axis, options.work, rounds)
            file.write(rates=[*file.table["rates"], rate], rows=[*file.table["rows"], *rows])
            advance()
