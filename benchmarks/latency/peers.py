"""Measures the same weights in every engine, each at its fastest setting.

A cell is a model, its data, a batch size and a number of beams. The result is written after every cell, and a
measurement that was stopped continues where it was.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from benchmarks.engines.base import TEACHER, EngineSpec
from benchmarks.engines.conversion import ConvertingConnector
from benchmarks.engines.folders import read_folder
from benchmarks.engines.process import Connect, EngineStopped
from benchmarks.engines.random_model import SHAPES, random_bundle, random_texts
from benchmarks.engines.registry import ENGINES, OWN, PEERS, RIVAL, check_peers
from benchmarks.latency.contenders import STUDENT
from benchmarks.latency.grid import (
    QUALITY_KEYS,
    ROW_KEYS,
    Batch,
    Contender,
    Hosts,
    Setting,
    batches,
    contender_name,
    full_precision,
    measure,
    rows_of,
    spread,
    with_speedup,
)
from benchmarks.latency.tuning import QUICK, Effort, pace, tune
from benchmarks.measure.result_file import ResultFile, Row
from benchmarks.quality.evaluate import TestSet, parse_test_set, quality, read_test_set, translate_all
from compressor.bundle import SHORTLIST, TOKENIZER_FOLDER, base_precision
from compressor.errors import ConfigError, ModelError
from compressor.text.tokenizer import load_tokenizer

CELL = ("shape", "data", "batch_size", "num_beams")
"""Keys of a row that say which cell it is of."""
KEYS = ("shape", "data", *ROW_KEYS, "inter_threads", "max_batch_size", "source_tokens", "target_tokens",
        "length_drift", "shortlist", "load_s")  # fmt: skip
BATCH_SIZES, NUM_BEAMS = (1, 8, 32, 64), (1, 5)
QUICK_BATCH_SIZES = (1, 8)
CALLS = 32
"""Most different batches in a cell."""
TEACHER_BEAMS = 5
TOKENS = 25
"""Length of sources and outputs of random weights, end of sentence included."""
DEV_SOURCES = 32
WITH_INT4 = {"6+2-256"}
"""Shapes exported in int4: with more layers of random weights, int4 outputs depend on the batch, and export refuses."""
SENTENCES = 64
"""Timed sentences of a test set."""
QUALITY_BATCH = 32
PATIENCE_MS = 15_000.0
"""An engine whose p50 is longer is left out of larger cells."""


class Model(NamedTuple):
    """A model in all its engines, and the data that it is measured on.

    Attributes:
        shape: Its name in the table.
        specs: The contenders.
        texts: Sources by the name of the data.
        count_tokens: Counts the tokens of a source, end of sentence included.
        references: References of all texts, for data that has them.
    """

    shape: str
    specs: list[EngineSpec]
    texts: dict[str, list[str]]
    count_tokens: Callable[[str], int]
    references: dict[str, list[str]]


def random_model(name: str, folder: Path, peers: Sequence[str]) -> Model:
    """A shape of random weights and its bundle, made in ``folder`` unless they are there."""
    shape, precisions = SHAPES[name], ("fp32", "int8", *(("int4",) if name in WITH_INT4 else ()))
    run, bundle = random_bundle(shape, folder / name, dev_sources=DEV_SOURCES, tokens=TOKENS, precisions=precisions)
    texts = random_texts(shape.vocab_size, max(BATCH_SIZES), TOKENS, seed=3)
    return Model(name, _specs(run, bundle, peers, TOKENS), {"random": texts}, _token_counter(bundle), {})


def trained_model(
    name: str, run: Path, bundle: Path, peers: Sequence[str], teacher: Path | None, tests: Sequence[TestSet]
) -> Model:
    """A run and its bundle on test sets, and their teacher in the rival engine."""
    specs = _specs(run, bundle, peers, None)
    if teacher is not None and RIVAL.name in peers:
        specs += [_spec(RIVAL.name, TEACHER, teacher, precision, None) for precision in RIVAL.precisions]
    pairs = {test.name: read_test_set(test.source, test.reference) for test in tests}
    texts = {data: sources for data, (sources, _) in pairs.items()}
    references = {data: targets for data, (_, targets) in pairs.items()}
    return Model(name, specs, texts, _token_counter(bundle), references)


def _token_counter(bundle: Path) -> Callable[[str], int]:
    """Returns a function that counts the tokens of a source, end of sentence included."""
    tokenizer = load_tokenizer(bundle / TOKENIZER_FOLDER)
    return lambda text: len(tokenizer.encode_source(text))


def _specs(run: Path, bundle: Path, peers: Sequence[str], limit: int | None) -> list[EngineSpec]:
    """The bundle in every precision, and the run in every peer."""
    own = [_spec(OWN.name, STUDENT, bundle, precision, limit) for precision in read_folder(bundle).precisions]
    return own + [
        _spec(peer, STUDENT, run, precision, limit) for peer in peers for precision in ENGINES[peer].precisions
    ]


def _spec(engine: str, model: str, path: Path, precision: str, limit: int | None) -> EngineSpec:
    """Returns the contender; ``limit`` is its longest output (None: as the model says)."""
    return EngineSpec(engine=engine, model=model, path=str(path), precision=precision, max_new_tokens=limit)


def measure_cell(
    model: Model, data: str, batch_size: int, num_beams: int, hosts: Hosts, effort: Effort, cores: int
) -> list[Row]:
    """The rows of a cell; a peer whose process ends has none."""
    work = batches(model.texts[data], batch_size)[:CALLS]
    tuned = []
    for spec in model.specs:
        try:
            tuned.append(tune(spec, work, num_beams, hosts, effort, cores))
        except EngineStopped as error:
            if not ENGINES[spec.engine].peer:
                raise
            print(f"{model.shape} {data}, batch {batch_size}, beams {num_beams}: {error}", file=sys.stderr)
    return _rows(model, data, tuned, work, effort)


def measure_factor(model: Model, data: str, hosts: Hosts, effort: Effort, cores: int) -> list[Row]:
    """The rows of the greedy int8 student and of its teacher with beams in the rival engine, one sentence a call.

    Each is at its fastest setting; there are no rows where either is missing.
    """
    students = [spec for spec in model.specs if (spec.engine, spec.precision) == (OWN.name, "int8")]
    teachers = [spec for spec in model.specs if (spec.model, spec.engine) == (TEACHER, RIVAL.name)]
    if not (students and teachers):
        return []
    work = batches(model.texts[data], 1)[:CALLS]
    sides = [*((spec, 1) for spec in students), *((spec, TEACHER_BEAMS) for spec in teachers)]
    tuned = [tune(spec, work, num_beams, hosts, effort, cores) for spec, num_beams in sides]
    return _rows(model, data, tuned, work, effort._replace(longest_s=math.inf))


def _rows(
    model: Model, data: str, tuned: Sequence[tuple[Contender, float]], work: Sequence[Batch], effort: Effort
) -> list[Row]:
    """A row for each contender.

    Raises:
        ModelError: outputs are not as long as they were forced to be.
    """
    measured = measure(
        [one for one, _ in tuned],
        work,
        repeats=effort.rounds,
        turn=len(work),
        paces={one.spec.name: pace(one, effort, seconds * len(work)) for one, seconds in tuned},
        budget_s=effort.longest_s,
    )
    texts = [text for batch in work for text in batch]
    for one in measured:
        spec = one.contender.spec
        if spec.max_new_tokens and one.tokens != spec.max_new_tokens * len(texts):
            wrong = f"{one.tokens} tokens for {len(texts)} texts, not {spec.max_new_tokens} for each"
            raise ModelError(f"{spec.name} wrote {wrong}")
    source_tokens = round(sum(map(model.count_tokens, texts)) / len(texts), 2)
    cell = {"shape": model.shape, "data": data, "source_tokens": source_tokens}
    return [cell | row | _split_precision(row["precision"]) for row in rows_of(measured, work)]


def _split_precision(precision: str) -> Row:
    """Returns the columns of a precision: ``int8+shortlist`` is int8 with a shortlist."""
    return {"precision": base_precision(precision), "shortlist": precision.endswith(SHORTLIST)}


def complete(rows: Sequence[Row]) -> list[Row]:
    """Rows with all of `KEYS`; speed-ups are counted from the student in the baseline engine, in the same cell."""
    return [dict.fromkeys(KEYS) | row for row in with_speedup(rows, STUDENT, CELL)]


def _scores(model: Model, data: str, num_beams: int, connect: Connect) -> dict[str, Row]:
    """Quality on the whole test set by contender; settings and batch sizes do not change it.

    Engines run in processes of their own here, for they hold on to the memory that a test set took.
    """
    scores = {}
    for spec in model.specs:
        if ENGINES[spec.engine].scored:
            with Hosts(connect) as hosts:
                host = hosts.host(spec, Setting(1), num_beams)
                outputs = translate_all(host, model.texts[data], num_beams, QUALITY_BATCH)
            measured = quality("translation", outputs, model.references[data])
            scores[spec.name] = {key: measured[key] for key in QUALITY_KEYS}
    return scores


def measure_model(
    model: Model, known: Sequence[Row], connect: Connect, effort: Effort, cores: int, quick: bool
) -> Iterator[list[Row]]:
    """The rows of each cell that is not among the known rows, smallest cells first."""
    known = [row for row in known if row["shape"] == model.shape]
    slow = {contender_name(row) for row in known if row["p50_ms"] > PATIENCE_MS}
    timed = model._replace(
        specs=[spec for spec in model.specs if spec.name not in slow],
        texts={data: spread(texts, SENTENCES) for data, texts in model.texts.items()},
    )
    scores = _known_scores(known)
    with Hosts(connect) as hosts:
        for data, size, beams in _missing_cells(model, known, QUICK_BATCH_SIZES if quick else BATCH_SIZES):
            rows = measure_cell(timed, data, size, beams, hosts, effort, cores)
            going = {contender_name(row) for row in rows if row["p50_ms"] <= PATIENCE_MS}
            timed = timed._replace(specs=[spec for spec in timed.specs if spec.name in going])
            if model.references and not quick:
                if (data, beams) not in scores:
                    scores[data, beams] = _scores(model, data, beams, connect)
                for row in rows:
                    row |= scores[data, beams].get(contender_name(row), {})
            yield rows


def _missing_cells(model: Model, known: Sequence[Row], sizes: Sequence[int]) -> list[tuple[str, int, int]]:
    """Returns data, batch size and beams of the cells that are not among the known rows, smallest first."""
    done = {tuple(row[key] for key in CELL) for row in known}
    grid = [(data, size, beams) for data in model.texts for beams in NUM_BEAMS for size in sizes]
    return sorted((cell for cell in grid if (model.shape, *cell) not in done), key=lambda cell: cell[1] * cell[2])


def _known_scores(known: Sequence[Row]) -> dict[tuple[str, int], dict[str, Row]]:
    """Scores by data and beams, then by contender, of the rows that have some."""
    scores: dict[tuple[str, int], dict[str, Row]] = {}
    for row in known:
        if row["signature"]:
            quality_of_row = {key: row[key] for key in QUALITY_KEYS}
            scores.setdefault((row["data"], row["num_beams"]), {})[contender_name(row)] = quality_of_row
    return scores


def measure_factors(
    model: Model, known: Sequence[Row], rows: Sequence[Row], connect: Connect, effort: Effort, cores: int
) -> list[Row]:
    """The factor rows of every test set that is not known; their quality is that of the cells' rows."""
    done = {(row["shape"], row["data"]) for row in known}
    scored = {(row["data"], row["num_beams"], contender_name(row)): row for row in rows if row["shape"] == model.shape}
    factors = []
    with Hosts(connect) as hosts:
        for data in model.references:
            if (model.shape, data) not in done:
                texts = spread(model.texts[data], SENTENCES)
                factors += measure_factor(model._replace(texts={data: texts}), data, hosts, effort, cores)
    for row in factors:
        scores = scored.get((row["data"], row["num_beams"], contender_name(row)), {})
        row |= {key: scores.get(key) for key in QUALITY_KEYS}
    return factors


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="result; continued if it is there")
    parser.add_argument("--shapes", default=",".join(SHAPES), metavar="LIST", help="models of random weights, or none")
    parser.add_argument("--peers", default=",".join(PEERS), metavar="LIST", help="other engines")
    parser.add_argument("--run", type=Path, metavar="DIR", help="a trained student, too")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="its bundle, in fp32, int8 and more")
    parser.add_argument("--name", default="de-en", help="the student's name in the table")
    parser.add_argument("--teacher", type=Path, metavar="DIR", help=f"its teacher, for {RIVAL.name}")
    parser.add_argument("--test", action="append", default=[], metavar="NAME=SOURCE,REFERENCE", help="its test sets")
    parser.add_argument("--work", type=Path, default=Path("peers"), metavar="DIR", help="bundles and converted models")
    parser.add_argument("--quick", action="store_true", help="batch 1 and 8, few rounds: minutes")


def run(options: argparse.Namespace) -> None:
    """Measures what the result file lacks."""
    peers = check_peers(options.peers.split(","))
    effort, cores = QUICK if options.quick else Effort(), len(os.sched_getaffinity(0))
    models = _models(options, peers)
    settings = {"quick": options.quick, **effort._asdict(), "sentences": SENTENCES, "peers": list(peers)}
    file, console = ResultFile(options.json, "peers", settings, {"factors": []}), Console(stderr=True)
    file.check_quick()
    for name, make in models.items():
        model, connect = make(), ConvertingConnector(options.work / name)
        for rows in measure_model(model, file.table["rows"], connect, effort, cores, options.quick):
            file.write(rows=complete([*file.table["rows"], *rows]))
            console.print(_summary(rows), highlight=False)
        known = file.table.get("factors", [])
        if factors := measure_factors(model, known, file.table["rows"], connect, effort, cores):
            file.write(factors=[*known, *complete(factors)])


def _models(options: argparse.Namespace, peers: Sequence[str]) -> dict[str, Callable[[], Model]]:
    """The models that the options name, made when they are called. Raises ConfigError."""
    names = [] if options.shapes == "none" else options.shapes.split(",")
    if unknown := [name for name in names if name not in SHAPES]:
        raise ConfigError(f"shapes: {', '.join(unknown)}: choose from {', '.join(SHAPES)}, or none")
    tests = list(map(parse_test_set, options.test))
    if not bool(options.run) == bool(options.bundle) == bool(tests):
        raise ConfigError("{run}, {bundle} and {test} go together", options=["run", "bundle", "test"])
    models: dict[str, Callable[[], Model]] = {name: partial(random_model, name, options.work, peers) for name in names}
    if options.run:
        given = (options.name, options.run, options.bundle, peers, options.teacher, tests)
        models[options.name] = partial(trained_model, *given)
    return models


def _summary(rows: list[Row]) -> str:
    """Returns the times of a cell in one line."""
    cell = rows[0]
    times = [f"{row['model'][0]} {row['engine']} {full_precision(row)} {row['p50_ms']:.1f}" for row in rows]
    place = f"{cell['shape']} {cell['data']}, batch {cell['batch_size']}, beams {cell['num_beams']}"
    return f"{place}, p50 ms: {', '.join(times)}"
