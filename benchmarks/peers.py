"""The same weights in every engine, each at its best setting: ``python -m benchmarks.peers --json FILE``.

A cell is a model's shape, its data, a batch size and a number of beams. In each, every engine first tries its settings
(threads inside an operator, batches at a time, size of these batches) and keeps the fastest; then all take turns. What
is measured is written after every cell: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from benchmarks import report
from benchmarks.engines import EngineName, EngineSpec
from benchmarks.engines.base import ModelName
from benchmarks.evaluation import quality, read_test_set, translate_all
from benchmarks.latency import QUALITY_KEYS, ROW_KEYS, Row, batches, spread
from benchmarks.peers_table import form
from benchmarks.settings import PEER_PRECISIONS, Peer, about, check_peers
from benchmarks.shapes import SHAPES, random_bundle, random_texts
from benchmarks.timing import summarize
from benchmarks.worker import Connect, EngineStopped, Host
from benchmarks.workshop import Workshop
from compressor.bundle import SHORTLIST, base_precision
from compressor.errors import CompressError, ConfigError
from compressor.provenance import provenance

BATCH_SIZES, NUM_BEAMS = (1, 8, 32, 64), (1, 5)
TOKENS = 25
"""Of sources and outputs of random weights, end of sentence included."""
DEV_SOURCES = 32
WITH_INT4 = {"6+2-256"}
"""Random weights of more layers have near-ties everywhere: int4 outputs depend on the batch, which export refuses."""
SENTENCES = 64
"""Of a test set, that are timed."""
CALLS = 32
"""Different batches in a cell, at most."""
QUALITY_BATCH = 32
CELL = ("shape", "data", "batch_size", "num_beams")
KEYS = ("shape", "data", *ROW_KEYS, "inter_threads", "max_batch_size", "source_tokens", "target_tokens",
        "length_drift", "shortlist", "load_s")  # fmt: skip
_WORKERS = {"onnx", "ctranslate2", "marian"}
"""Engines that work on several batches at a time."""


class Effort(NamedTuple):
    """How long is measured."""

    tried_s: float = 0.4
    """Seconds of a turn in which a setting is tried: of all batches, as many as fit."""
    rounds: int = 5
    turn_s: float = 0.4
    """Least seconds of a turn: as many calls as it takes."""
    longest_s: float = 4.0
    """An engine has fewer rounds once all its calls of a cell have taken so long."""
    pause_s: float = 0.2
    """Before a turn, where the one before had several threads: they wait busily for a while."""


_TRIES, _LONG_S = 3, 1.0
"""Turns of a setting, and seconds of a call that is tried once."""

PATIENCE_MS = 15_000.0
"""An engine whose calls take longer, or that has stopped, is left out of larger cells."""

QUICK = Effort(tried_s=0.05, rounds=2, turn_s=0.05, longest_s=2.0)


class Setting(NamedTuple):
    """How an engine uses the processors."""

    intra_threads: int
    inter_threads: int
    max_batch_size: int | None


class Model(NamedTuple):
    """What is measured in one shape: where its forms are, and on what."""

    shape: str
    specs: list[EngineSpec]
    texts: dict[str, list[str]]
    """By the name of the data; every one of them is as good as another."""
    source_tokens: float | None
    references: dict[str, list[str]]
    """Of all texts, where there are some."""


class Shaped:
    """The hosts of a shape, opened when they are first needed, and closed together."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._hosts: dict[tuple[str, int, int, int], Host] = {}

    def __enter__(self) -> Shaped:
        return self

    def __exit__(self, *error: object) -> None:
        for host in self._hosts.values():
            host.close()

    def host(self, spec: EngineSpec, setting: Setting, num_beams: int) -> Host:
        """The host of a contender with so many threads; for ours, of that search alone, as a user would have it."""
        beams = num_beams if spec.engine == "onnx" else 1
        key = (spec.name, setting.intra_threads, setting.inter_threads, beams)
        if key not in self._hosts:
            spec = spec.model_copy(update={"inter_threads": setting.inter_threads, "num_beams": beams})
            self._hosts[key] = self._connect(spec, setting.intra_threads)
        return self._hosts[key]


class Contender(NamedTuple):
    """An engine in a cell, at the setting that is best there."""

    spec: EngineSpec
    host: Host
    setting: Setting
    seconds: float
    """A call takes, about."""

    def translate(self, texts: Sequence[str], num_beams: int) -> tuple[float, int]:
        """Seconds of a call, and the tokens it made."""
        reply = self.host.translate(texts, num_beams, **_options(self.setting))
        return reply.seconds, sum(reply.tokens)


def settings(engine: EngineName, batch_size: int, cores: int) -> list[Setting]:
    """What an engine tries in a cell: one thread, all of them in one operator, and as many batches at a time."""
    found = [Setting(1, 1, None)]
    if cores > 1 and engine != "marian":
        found.append(Setting(cores, 1, None))
    if cores > 1 and engine in _WORKERS and batch_size > 1:
        share = -(-batch_size // cores)
        sizes = {share, max(1, share // 2)} if batch_size >= 32 else {share}
        found += [Setting(1, cores, size) for size in sorted(sizes)]
    return found


def measure_cell(
    model: Model, data: str, batch_size: int, num_beams: int, hosts: Shaped, effort: Effort, cores: int
) -> list[Row]:
    """The rows of a cell; a peer that stops has none."""
    work = batches(model.texts[data], batch_size)[:CALLS]
    contenders = []
    for spec in model.specs:
        try:
            tried = settings(spec.engine, batch_size, cores)
            contenders.append(_tuned(spec, work, num_beams, hosts, tried, effort))
        except EngineStopped as error:
            if spec.engine == "onnx":
                raise
            print(f"{model.shape} {data}, batch {batch_size}, beams {num_beams}: {error}", file=sys.stderr)
    samples: dict[str, list[list[float]]] = {one.spec.name: [[] for _ in work] for one in contenders}
    tokens: dict[str, list[int]] = {one.spec.name: [0] * len(work) for one in contenders}
    spent = dict.fromkeys(samples, 0.0)
    for one in contenders:
        one.host.reset_peak()
    for _ in range(effort.rounds):
        spinning = False
        for one in contenders:
            name = one.spec.name
            if spent[name] >= effort.longest_s:
                continue
            time.sleep(effort.pause_s if spinning else 0.0)
            for _ in range(max(1, min(8, round(effort.turn_s / (one.seconds * len(work)))))):
                for index, texts in enumerate(work):
                    seconds, tokens[name][index] = one.translate(texts, num_beams)
                    samples[name][index].append(seconds)
                    spent[name] += seconds
            spinning = one.setting.intra_threads > 1
    counts = {one.spec.name: sum(tokens[one.spec.name]) for one in contenders}
    cell = {"shape": model.shape, "data": data, "batch_size": batch_size, "num_beams": num_beams}
    sentences = batch_size * len(work)
    return [
        cell | {"source_tokens": model.source_tokens} | _row(one, samples[one.spec.name], counts, sentences)
        for one in contenders
    ]


def _tuned(
    spec: EngineSpec, work: Sequence[list[str]], num_beams: int, hosts: Shaped, tried: list[Setting], effort: Effort
) -> Contender:
    """At its fastest setting: they take turns, and each is given the same batches."""
    contenders = [Contender(spec, hosts.host(spec, setting, num_beams), setting, 0.0) for setting in tried]
    first = [one.translate(work[0], num_beams)[0] for one in contenders]  # it allocates: of a long call, a small part
    work = work[: max(1, int(effort.tried_s / min(first)))]
    totals = first
    if min(first) <= _LONG_S:
        samples = [[list[float]() for _ in work] for _ in contenders]
        for _ in range(_TRIES):
            for one, found in zip(contenders, samples, strict=True):
                for texts, calls in zip(work, found, strict=True):
                    calls.append(one.translate(texts, num_beams)[0])
                time.sleep(effort.pause_s if one.setting.intra_threads > 1 else 0.0)
        totals = [summarize(found).total for found in samples]
    best = min(range(len(tried)), key=totals.__getitem__)
    return contenders[best]._replace(seconds=totals[best] / len(work))


def _options(setting: Setting) -> dict[str, int]:
    return {} if setting.max_batch_size is None else {"max_batch_size": setting.max_batch_size}


def _row(one: Contender, samples: list[list[float]], counts: dict[str, int], sentences: int) -> Row:
    spec, info, summary = one.spec, one.host.info, summarize(samples)
    own = counts[spec.name]
    reference = counts.get(f"{spec.model} onnx fp32") or counts.get(f"{spec.model} ctranslate2 fp32") or own
    return {
        "engine": spec.engine,
        "model": spec.model,
        "precision": base_precision(spec.precision),
        "intra_threads": one.setting.intra_threads,
        "inter_threads": one.setting.inter_threads,
        "max_batch_size": one.setting.max_batch_size,
        "p50_ms": round(summary.p50 * 1e3, 4),
        "p90_ms": round(summary.p90 * 1e3, 4),
        "p99_ms": round(summary.p99 * 1e3, 4),
        "sentences_per_s": round(sentences / summary.total, 2),
        "tokens_per_s": round(reference / summary.total, 1),
        "target_tokens": round(reference / sentences, 2),
        "length_drift": round(own / reference - 1, 4),
        "memory_mb": round(one.host.memory_mb(), 1),
        "size_mb": round(info.size_mb, 2),
        "load_s": round(info.load_s, 3),
        "parameters": info.parameters,
        "shortlist": spec.precision.endswith(SHORTLIST),
    }


def with_speedup(rows: Sequence[Row]) -> list[Row]:
    """Rows with ``speedup``: p50 of the student in transformers, fp32, over the row's, in the same cell."""
    base = {
        tuple(row[key] for key in CELL): row["p50_ms"]
        for row in rows
        if (row["model"], row["engine"], row["precision"]) == ("student", "transformers", "fp32")
    }
    done = []
    for row in rows:
        other = base.get(tuple(row[key] for key in CELL))
        speedup = None if other is None else round(other / row["p50_ms"], 2)
        done.append(dict.fromkeys(KEYS) | row | {"speedup": speedup})
    return done


def random_model(name: str, folder: Path, peers: Sequence[Peer]) -> Model:
    """A shape of random weights, with its bundle, made unless they are there."""
    shape, precisions = SHAPES[name], ("fp32", "int8", *(("int4",) if name in WITH_INT4 else ()))
    run, bundle = random_bundle(shape, folder / name, dev_sources=DEV_SOURCES, tokens=TOKENS, precisions=precisions)
    texts = random_texts(shape.vocab_size, max(BATCH_SIZES), TOKENS, seed=3)
    return Model(name, _specs(run, bundle, peers, TOKENS), {"random": texts}, TOKENS, {})


def trained_model(
    name: str, run: Path, bundle: Path, peers: Sequence[Peer], teacher: Path | None, tests: dict[str, tuple[Path, Path]]
) -> Model:
    """A run and its bundle on test sets, beside their teacher in CTranslate2."""
    specs = _specs(run, bundle, peers, None)
    if teacher is not None and "ctranslate2" in peers:
        specs += [_spec("ctranslate2", "teacher", teacher, precision, None) for precision in ("fp32", "int8")]
    pairs = {data: read_test_set(*files) for data, files in tests.items()}
    texts = {data: sources for data, (sources, _) in pairs.items()}
    return Model(name, specs, texts, None, {data: references for data, (_, references) in pairs.items()})


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
            with Shaped(connect) as hosts:
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
    timed = model._replace(texts={data: spread(texts, SENTENCES) for data, texts in model.texts.items()})
    scores: dict[tuple[str, int], dict[str, Row]] = {}
    for row in known:
        if row["shape"] == model.shape and row["signature"]:
            found = {key: row[key] for key in QUALITY_KEYS}
            scores.setdefault((row["data"], row["num_beams"]), {})[_name(row)] = found
    with Shaped(connect) as hosts:
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
        return error.exit_code
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
    rows: list[Row] = table["rows"]
    told = {"quick": options.quick, **effort._asdict(), "sentences": SENTENCES, "peers": list(peers)}
    before = table["provenance"].get("peers", told)
    if before["quick"] != options.quick:
        raise ConfigError(f"{options.json}: was made {'with' if before['quick'] else 'without'} --quick; name another")
    earlier = [*table["provenance"].pop("earlier", []), table["provenance"]] if rows else []
    models: dict[str, Callable[[], Model]] = {name: partial(random_model, name, options.work, peers) for name in names}
    if options.run:
        given = (options.name, options.run, options.bundle, peers, options.teacher, tests)
        models[options.name] = partial(trained_model, *given)
    for name, make in models.items():
        workshop = Workshop(options.work / name)
        for found in measure_model(make(), rows, workshop, effort, cores, options.quick):
            rows = with_speedup([*rows, *found])
            made = {**provenance(), "peers": told, "earlier": earlier}
            report.write_json({"provenance": made, "rows": rows}, options.json)
            console.print(_line(found), highlight=False)


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
