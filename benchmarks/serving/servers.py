"""Measures servers beside the runtime that they run, one after the other, for models of several labels.

For each model: the runtime alone at batch 1 and 32 in a process of its own; ``compress serve`` under load, with single
texts and with 16 texts a request; and, where a run or checkpoint of the model is given, the FastAPI application around
CTranslate2.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.engines.base import EngineSpec
from benchmarks.engines.folders import spec_of
from benchmarks.engines.process import ProcessHost
from benchmarks.measure.result_file import Row
from benchmarks.measure.timing import interleave, median
from benchmarks.serving import rows as result_rows
from benchmarks.serving.client import Address
from benchmarks.serving.dialects import DialectName, Languages, messages
from benchmarks.serving.launch import Launched, launched
from benchmarks.serving.load import SHARES, Pace, Target, check_answers, measure, print_rows, read_texts
from compressor.errors import ConfigError
from compressor.processors import available_cpus

BATCHES = (1, 32)
MANY = 16
"""Texts a request of the second kind of load, from `MANY_CLIENTS` clients."""
MANY_CLIENTS = 8
PEER, PEER_MODULE = "fastapi-ctranslate2", "benchmarks.serving.ctranslate2_app"


class RuntimeSpeed(NamedTuple):
    """Sentences a second of the runtime by batch size, and the median time of a sentence alone in ms."""

    sentences_per_s: dict[str, float]
    alone_ms: float


def runtime_speed(spec: EngineSpec, texts: Sequence[str], threads: int, repeats: int) -> RuntimeSpeed:
    """Measures the runtime in a process of its own; the batch sizes take turns.

    Args:
        spec: The bundle.
        texts: Sources, at least as many as the largest batch.
        threads: Batches at a time, with one thread each.
        repeats: Passes over the texts.
    """
    with contextlib.closing(ProcessHost(spec.model_copy(update={"inter_threads": threads}), 1)) as host:
        batches = {size: [texts[at : at + size] for at in range(0, len(texts), size)] for size in BATCHES}
        passes = interleave(
            {size: lambda _, size=size: sum(host.translate(batch, 1).seconds for batch in batches[size])
             for size in BATCHES},
            [None],
            repeats=repeats,
        )  # fmt: skip
        alone = [host.translate([text], 1).seconds for text in texts]
    return RuntimeSpeed(
        {f"batch_{size}": round(len(texts) / median(passes[size][0]), 1) for size in BATCHES}, median(alone) * 1e3
    )


def serve_rows(
    server: Launched,
    *,
    name: str,
    model: str,
    dialect: DialectName,
    batching: bool,
    texts: Sequence[str],
    languages: Languages,
    clients: list[int],
    pace: Pace,
) -> list[Row]:
    """Returns the rows of one server: single texts with a saturation curve, and 16 texts a request."""
    address = Address.of(server.url)

    async def load() -> list[Row]:
        measured: list[Row] = []
        for count, counts, shares in ((1, clients, list(SHARES)), (MANY, [MANY_CLIENTS], [])):
            requests = messages(dialect, address, texts, count, languages=languages)
            target = Target(address, requests, count, name, model, batching)
            await check_answers(target, dialect)
            measured += await measure(target, counts, shares, [], pace)
        return measured

    return asyncio.run(load())


@contextlib.contextmanager
def compress_server(bundle: Path, threads: int) -> Iterator[Launched]:
    """Runs ``compress serve`` on a free port."""
    with launched("compressor", "serve", str(bundle), "--port", "0", "--threads", str(threads)) as server:
        yield server


@contextlib.contextmanager
def peer_server(model: Path, threads: int, *, batching: bool = True) -> Iterator[Launched]:
    """Runs the application around CTranslate2 on a free port."""
    arguments = [str(model), "--threads", str(threads), *([] if batching else ["--max-batch", "1"])]
    with launched(PEER_MODULE, *arguments, ready="/health", seconds=300) as server:
        yield server


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "--bundle", action="append", default=[], metavar="LABEL=DIR", help="bundle; LABEL is teacher or student"
    )
    parser.add_argument(
        "--peer", action="append", default=[], metavar="LABEL=DIR", help="run or checkpoint of the same model"
    )
    parser.add_argument("--source", type=Path, required=True, metavar="FILE", help="texts, one a line")
    parser.add_argument("--texts", type=int, default=512, metavar="N", help="how many of them to use")
    parser.add_argument("--languages", nargs=2, default=["de", "en"], metavar=("FROM", "TO"), help="their codes")
    parser.add_argument("--threads", type=int, help="batches at a time in every server; default: one a processor")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 32], metavar="N", help="clients of closed loops")
    parser.add_argument("--seconds", type=float, default=10.0, help="measured seconds of each row")
    parser.add_argument("--warmup", type=float, default=3.0, help="seconds of load before them")
    parser.add_argument("--repeats", type=int, default=3, help="passes of the runtime over the texts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="put the results into this file")


def run(options: argparse.Namespace) -> None:
    """Measures model after model, writes the file after each part, and prints a table."""
    bundles, peers = _labelled(options.bundle, "bundle"), _labelled(options.peer, "peer")
    if not bundles or not set(peers) <= set(bundles):
        raise ConfigError("every label needs a {bundle}: give LABEL=DIR", options=["bundle", "peer"])
    texts, threads = read_texts(options.source, options.texts), options.threads or available_cpus()
    languages, pace = Languages(*options.languages), Pace(options.seconds, options.warmup)
    settings = {**pace._asdict(), "source": options.source.name, "texts": len(texts), "threads": threads}
    overheads: dict[str, float] = {}
    for label, bundle in bundles.items():
        spec = spec_of(bundle, label, None, None)
        speed = runtime_speed(spec, texts, threads, options.repeats)
        settings |= {f"{label}_precision": spec.precision}
        _write(options.json, "runtime_sentences_per_s", {label: speed.sentences_per_s}, settings)
        print(f"{label}: runtime {speed.sentences_per_s} sentences/s, {speed.alone_ms:.2f} ms alone")
        common = {"model": label, "batching": True, "texts": texts, "languages": languages}
        with compress_server(bundle, threads) as server:
            measured = serve_rows(
                server, name="compress", dialect="native", clients=options.clients, pace=pace, **common
            )
        _report("compress", measured, options.json, settings)
        alone = next((row["p50_ms"] for row in measured if row["concurrency"] == 1), None)
        if alone is not None:
            overheads[label] = round(alone - speed.alone_ms, 2)
            _write(options.json, "overhead_ms", overheads, settings)
            print(f"{label}: HTTP adds {overheads[label]:.2f} ms to a sentence alone")
        if label in peers:
            with peer_server(peers[label], threads) as server:
                measured = serve_rows(
                    server, name=PEER, dialect="libretranslate", clients=options.clients, pace=pace, **common
                )
            _report(PEER, measured, options.json, settings)


def _report(name: str, measured: list[Row], path: Path | None, settings: dict[str, object]) -> None:
    _write(path, "load", measured, settings)
    print(f"{name}:")
    print_rows(measured)
    sys.stdout.flush()


def _write(path: Path | None, part: str, content: object, settings: dict[str, object]) -> None:
    if path is not None:
        result_rows.write_result(path, part, content, settings)


def _labelled(values: Sequence[str], option: str) -> dict[str, Path]:
    """Returns ``LABEL=DIR`` as a dictionary. Raises ConfigError for anything else."""
    pairs = [value.partition("=") for value in values]
    if wrong := [value for value, pair in zip(values, pairs, strict=True) if not (pair[0] and pair[2])]:
        raise ConfigError(f"{{{option}}} is {wrong[0]!r}: give LABEL=DIR", options=[option])
    return {label: Path(folder) for label, _, folder in pairs}
