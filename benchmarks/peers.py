"""The same weights in every engine, each at its best setting: ``python -m benchmarks.peers --json FILE``.

A cell is a model's shape, its data, a batch size and a number of beams. What is measured is written after every cell: a
run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks import report
from benchmarks.cells import (
    CELL,
    QUICK,
    Effort,
    Hosts,
    Model,
    Setting,
    measure_cell,
    measure_factor,
    with_speedup,
)
from benchmarks.engines import EngineName, EngineSpec
from benchmarks.engines.base import ModelName
from benchmarks.evaluation import quality, read_test_set, translate_all
from benchmarks.latency import QUALITY_KEYS, Row, spread
from benchmarks.peers_table import form
from benchmarks.settings import PEER_PRECISIONS, Peer, about, check_peers
from benchmarks.shapes import SHAPES, random_bundle, random_texts
from benchmarks.worker import Connect
from benchmarks.workshop import Workshop
from compressor.bundle import TOKENIZER_FOLDER
from compressor.errors import CompressError, ConfigError
from compressor.provenance import provenance
from compressor.text.tokenizer import load_tokenizer

BATCH_SIZES, NUM_BEAMS = (1, 8, 32, 64), (1, 5)
TOKENS = 25
"""Of sources and outputs of random weights, end of sentence included."""
DEV_SOURCES = 32
WITH_INT4 = {"6+2-256"}
"""Random weights of more layers have near-ties everywhere: int4 outputs depend on the batch, which export refuses."""
SENTENCES = 64
"""Of a test set, that are timed."""
QUALITY_BATCH = 32
PATIENCE_MS = 15_000.0
"""An engine whose calls take longer, or that has stopped, is left out of larger cells."""


def random_model(name: str, folder: Path, peers: Sequence[Peer]) -> Model:
    """A shape of random weights, with its bundle, made unless they are there."""
    shape, precisions = SHAPES[name], ("fp32", "int8", *(("int4",) if name in WITH_INT4 else ()))
    run, bundle = random_bundle(shape, folder / name, dev_sources=DEV_SOURCES, tokens=TOKENS, precisions=precisions)
    texts = random_texts(shape.vocab_size, max(BATCH_SIZES), TOKENS, seed=3)
    return Model(name, _specs(run, bundle, peers, TOKENS), {"random": texts}, _counter(bundle), {})


def trained_model(
    name: str, run: Path, bundle: Path, peers: Sequence[Peer], teacher: Path | None, tests: dict[str, tuple[Path, Path]]
) -> Model:
    """A run and its bundle on test sets, beside their teacher in CTranslate2."""
    specs = _specs(run, bundle, peers, None)
    if teacher is not None and "ctranslate2" in peers:
        specs += [_spec("ctranslate2", "teacher", teacher, precision, None) for precision in ("fp32", "int8")]
    pairs = {data: read_test_set(*files) for data, files in tests.items()}
    texts = {data: sources for data, (sources, _) in pairs.items()}
    references = {data: found for data, (_, found) in pairs.items()}
    return Model(name, specs, texts, _counter(bundle), references)


def _counter(bundle: Path) -> Callable[[str], int]:
    tokenizer = load_tokenizer(bundle / TOKENIZER_FOLDER)
    return lambda text: len(tokenizer.encode_source(text))


def _specs(run: Path, bundle: Path, peers: Sequence[Peer], limit: int | None) -> list[EngineSpec]:
    """Ours in every precision of the bundle, and the peers."""
    own = [_spec("onnx", "student", bundle, precision, limit) for precision in about(bundle).precisions]
    return own + [
        _spec(peer, "student", run, precision, limit) for peer in peers for precision in PEER_PRECISIONS[peer]
    ]


def _spec(engine: EngineName, model: ModelName, path: Path, precision: str, limit: int | None) -> EngineSpec:
    return EngineSpec(engine=engine, model=model, path=str(path), precision=precision, max_new_tokens=limit)


def _scores(model: Model, data: str, num_beams: int, connect: Connect) -> dict[str, Row]:
    """Quality of the whole test set by contender: settings and batch sizes do not bear on it.

    In processes of their own, for an engine holds on to the memory that a test set took.
    """
    found = {}
    for spec in model.specs:
        if spec.engine in ("onnx", "ctranslate2"):
            with Hosts(connect) as hosts:
                host = hosts.host(spec, Setting(1, 1, None), num_beams)
                outputs = translate_all(host, model.texts[data], num_beams, QUALITY_BATCH)
            scores = quality("translation", outputs, model.references[data])
            found[spec.name] = {key: scores[key] for key in QUALITY_KEYS}
    return found


def measure_model(
    model: Model, known: Sequence[Row], connect: Connect, effort: Effort, cores: int, quick: bool
) -> Iterator[list[Row]]:
    """Cells that are not known, smallest first, each as its rows."""
    done = {tuple(row[key] for key in CELL) for row in known}
    grid = [(data, size, beams) for data in model.texts for beams in NUM_BEAMS for size in BATCH_SIZES]
    if quick:
        grid = [cell for cell in grid if cell[1] in (1, 8)]
    grid = [cell for cell in grid if (model.shape, *cell) not in done]
    slow = {_name(row) for row in known if row["shape"] == model.shape and row["p50_ms"] > PATIENCE_MS}
    timed = model._replace(
        specs=[spec for spec in model.specs if spec.name not in slow],
        texts={data: spread(texts, SENTENCES) for data, texts in model.texts.items()},
    )
    scores: dict[tuple[str, int], dict[str, Row]] = {}
    for row in known:
        if row["shape"] == model.shape and row["signature"]:
            found = {key: row[key] for key in QUALITY_KEYS}
            scores.setdefault((row["data"], row["num_beams"]), {})[_name(row)] = found
    with Hosts(connect) as hosts:
        for data, size, beams in sorted(grid, key=lambda cell: cell[1] * cell[2]):
            rows = measure_cell(timed, data, size, beams, hosts, effort, cores)
            going = {_name(row) for row in rows if row["p50_ms"] <= PATIENCE_MS}
            timed = timed._replace(specs=[spec for spec in timed.specs if spec.name in going])
            if model.references and not quick:
                if (data, beams) not in scores:
                    scores[data, beams] = _scores(model, data, beams, connect)
                for row in rows:
                    row |= scores[data, beams].get(_name(row), {})
            yield rows


def measure_factors(
    model: Model, known: Sequence[Row], rows: Sequence[Row], connect: Connect, effort: Effort, cores: int
) -> list[Row]:
    """The student beside its teacher on every test set that is not known; its quality is that of the cells' rows."""
    done = {(row["shape"], row["data"]) for row in known}
    scored = {(row["data"], row["num_beams"], _name(row)): row for row in rows if row["shape"] == model.shape}
    found = []
    with Hosts(connect) as hosts:
        for data in model.references:
            if (model.shape, data) not in done:
                texts = spread(model.texts[data], SENTENCES)
                found += measure_factor(model._replace(texts={data: texts}), data, hosts, effort, cores)
    for row in found:
        scores = scored.get((row["data"], row["num_beams"], _name(row)), {})
        row |= {key: scores.get(key) for key in QUALITY_KEYS}
    return found


def _name(row: Row) -> str:
    return f"{row['model']} {row['engine']} {form(row)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks.peers", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="the table; one that is there goes on")
    parser.add_argument("--shapes", default=",".join(SHAPES), metavar="LIST", help="of random weights, or none")
    parser.add_argument("--peers", default=",".join(PEER_PRECISIONS), metavar="LIST", help="other engines")
    parser.add_argument("--run", type=Path, metavar="DIR", help="a trained student, too")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="its bundle, in fp32, int8 and more")
    parser.add_argument("--name", default="de-en", help="what its shape is called")
    parser.add_argument("--teacher", type=Path, metavar="DIR", help="its teacher, for CTranslate2")
    parser.add_argument("--test", action="append", default=[], metavar="NAME=SOURCE,REFERENCE", help="its test sets")
    parser.add_argument(
        "--work", type=Path, default=Path("peers"), metavar="DIR", help="for bundles and converted models"
    )
    parser.add_argument("--quick", action="store_true", help="batch 1 and 8, few rounds: minutes")
    options = parser.parse_args(arguments)
    try:
        _run(options)
    except CompressError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    peers = check_peers(options.peers.split(","))
    names = [] if options.shapes == "none" else options.shapes.split(",")
    if unknown := [name for name in names if name not in SHAPES]:
        raise ConfigError(f"shapes: {', '.join(unknown)}: choose from {', '.join(SHAPES)}, or none")
    tests = dict(map(_test_set, options.test))
    if not bool(options.run) == bool(options.bundle) == bool(tests):
        raise ConfigError("--run, --bundle and --test go together")
    effort, cores, console = QUICK if options.quick else Effort(), len(os.sched_getaffinity(0)), Console(stderr=True)
    table = report.load(options.json) if options.json.exists() else {"rows": [], "provenance": {}}
    rows, factors = list[Row](table["rows"]), list[Row](table.get("factors", []))
    told = {"quick": options.quick, **effort._asdict(), "sentences": SENTENCES, "peers": list(peers)}
    before = table["provenance"].get("peers", told)
    if before["quick"] != options.quick:
        raise ConfigError(f"{options.json}: was made {'with' if before['quick'] else 'without'} --quick; name another")
    earlier = [*table["provenance"].pop("earlier", []), table["provenance"]] if rows else []

    def write(rows: list[Row], factors: list[Row]) -> None:
        made = {**provenance(), "peers": told, "earlier": earlier}
        report.write_json({"provenance": made, "rows": rows, "factors": factors}, options.json)

    models: dict[str, Callable[[], Model]] = {name: partial(random_model, name, options.work, peers) for name in names}
    if options.run:
        given = (options.name, options.run, options.bundle, peers, options.teacher, tests)
        models[options.name] = partial(trained_model, *given)
    for name, make in models.items():
        model, workshop = make(), Workshop(options.work / name)
        for found in measure_model(model, rows, workshop, effort, cores, options.quick):
            rows = with_speedup([*rows, *found])
            write(rows, factors)
            console.print(_line(found), highlight=False)
        if found := measure_factors(model, factors, rows, workshop, effort, cores):
            factors = [*factors, *with_speedup(found)]
            write(rows, factors)


def _line(rows: list[Row]) -> str:
    cell = rows[0]
    times = [f"{row['model'][0]} {row['engine']} {form(row)} {row['p50_ms']:.1f}" for row in rows]
    place = f"{cell['shape']} {cell['data']}, batch {cell['batch_size']}, beams {cell['num_beams']}"
    return f"{place}, p50 ms: {', '.join(times)}"


def _test_set(text: str) -> tuple[str, tuple[Path, Path]]:
    name, equals, files = text.partition("=")
    source, comma, reference = files.partition(",")
    if not (equals and comma):
        raise ConfigError(f"--test {text}: give NAME=SOURCE,REFERENCE")
    return name, (Path(source), Path(reference))


if __name__ == "__main__":
    sys.exit(main())
