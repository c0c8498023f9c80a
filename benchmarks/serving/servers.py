"""Measures servers beside the runtime that they run, one after the other, for models of several labels.

For each model: the runtime alone at batch 1 and 32, in a process of its own; what HTTP adds to a text; ``compress
serve`` under load, with single texts and with 16 texts a request; and, where a run or checkpoint of the model is given,
its peers: the FastAPI application around CTranslate2 and, if asked for, LibreTranslate.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.engines.folders import spec_of
from benchmarks.engines.process import ProcessHost
from benchmarks.measure.result_file import Row
from benchmarks.measure.timing import interleave, median
from benchmarks.serving import libretranslate
from benchmarks.serving import rows as result_rows
from benchmarks.serving.client import Address
from benchmarks.serving.dialects import DialectName, Languages, messages
from benchmarks.serving.launch import Launched, launched, python_module
from benchmarks.serving.load import SHARES, LoadTarget, LoadWindow, check_answers, measure, print_rows, read_texts
from benchmarks.serving.overhead import http_overhead
from compressor.bundle import base_precision
from compressor.errors import ConfigError
from compressor.processors import available_cpus

BATCHES = (1, 32)
MANY = 16
"""Texts a request of the second kind of load, from `MANY_CLIENTS` clients."""
MANY_CLIENTS = 8
PEER, PEER_MODULE = "fastapi-ctranslate2", "benchmarks.serving.ctranslate2_app"
BARE, BARE_MODULE = "bare uvicorn", "benchmarks.serving.bare_app"


class ServerBench(NamedTuple):
    """What is alike for all servers and models."""

    texts: list[str]
    languages: Languages
    threads: int
    clients: list[int]
    pace: LoadWindow
    repeats: int
    json: Path | None
    settings: dict[str, Any]

    def write(self, part: str, content: object) -> None:
        """Puts a part into the result file, if there is one."""
        if self.json is not None:
            result_rows.write_result(self.json, part, content, self.settings)


def runtime_speed(host: ProcessHost, texts: Sequence[str], repeats: int) -> dict[str, float]:
    """Returns the sentences a second of the runtime by batch size; the sizes take turns.

    Args:
        host: The runtime in a process of its own.
        texts: Sources, at least as many as the largest batch.
        repeats: Passes over the texts.
    """

    def probe(size: int) -> Callable[[None], float]:
        batches = [texts[at : at + size] for at in range(0, len(texts), size)]
        return lambda _: sum(host.translate(batch, 1).seconds for batch in batches)

    seconds = interleave({size: probe(size) for size in BATCHES}, [None], repeats=repeats)
    return {f"batch_{size}": round(len(texts) / median(seconds[size][0]), 1) for size in BATCHES}


def server_rows(setup: ServerBench, server: Launched, name: str, model: str, dialect: DialectName) -> list[Row]:
    """Returns the rows of one server: single texts with a saturation curve, and 16 texts a request."""
    address = Address.of(server.url)

    async def load() -> list[Row]:
        measured: list[Row] = []
        for count, clients, shares in ((1, setup.clients, list(SHARES)), (MANY, [MANY_CLIENTS], [])):
            requests = messages(dialect, address, setup.texts, count, languages=setup.languages)
            target = LoadTarget(address, requests, count, name, model)
            await check_answers(target, dialect)
            measured += await measure(target, clients, shares, [], setup.pace)
        return measured

    rows = asyncio.run(load())
    setup.write("load", rows)
    print(f"{model}, {name}:")
    print_rows(rows)
    sys.stdout.flush()
    return rows


def measure_runtime(setup: ServerBench, label: str, host: ProcessHost) -> None:
    """Measures the runtime alone, and writes its speed."""
    speed = runtime_speed(host, setup.texts, setup.repeats)
    setup.write("runtime_sentences_per_s", {label: speed})
    print(f"{label}, runtime: {speed} sentences/s")


def measure_overhead(setup: ServerBench, label: str, bundle: Path, host: ProcessHost) -> None:
    """Measures what HTTP adds to a text, in ``compress serve`` and in the least server, and writes it."""
    bare = python_module(BARE_MODULE, str(bundle), "--threads", str(setup.threads))
    with launched(serve_command(setup, bundle)) as server, launched(bare, ready="/") as least:
        addresses = {"compress": Address.of(server.url), BARE: Address.of(least.url)}
        overhead = http_overhead(addresses, host, setup.texts)
    setup.write("overhead_ms", {label: overhead})
    print(f"{label}: HTTP adds to a sentence alone, in ms: {overhead}")


def serve_command(setup: ServerBench, bundle: Path) -> list[str]:
    """The command of ``compress serve``."""
    return python_module("compressor", "serve", str(bundle), "--port", "0", "--threads", str(setup.threads))


def measure_peers(setup: ServerBench, label: str, model: Path, precision: str, names: Sequence[str]) -> None:
    """Measures the peers of these names with a run or checkpoint, and writes each part."""
    arguments = [str(model), "--threads", str(setup.threads), "--precision", precision]
    if PEER in names:
        with launched(python_module(PEER_MODULE, *arguments), ready="/health", seconds=300) as server:
            server_rows(setup, server, PEER, label, "libretranslate")
    if libretranslate.NAME in names:
        clients = max([*setup.clients, MANY_CLIENTS])
        with libretranslate.libretranslate(
            model, precision=precision, languages=setup.languages, threads=setup.threads, clients=clients
        ) as server:
            server_rows(setup, server, libretranslate.NAME, label, "libretranslate")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "--bundle", action="append", default=[], metavar="LABEL=DIR", help="bundle; LABEL is teacher or student"
    )
    parser.add_argument(
        "--peer", action="append", default=[], metavar="LABEL=DIR", help="run or checkpoint of the same model"
    )
    parser.add_argument(
        "--peers",
        nargs="+",
        choices=[PEER, libretranslate.NAME],
        default=[PEER],
        help="servers beside it; libretranslate is installed at its first use (600 MB)",
    )
    parser.add_argument("--overhead-only", action="store_true", help="measure what HTTP adds to a text, and no more")
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
    """Measures model after model."""
    bundles, peers = _labelled(options.bundle, "bundle"), _labelled(options.peer, "peer")
    if not bundles or not set(peers) <= set(bundles):
        raise ConfigError("every label needs a {bundle}: give LABEL=DIR", options=["bundle", "peer"])
    texts, threads = read_texts(options.source, options.texts), options.threads or available_cpus()
    pace = LoadWindow(options.seconds, options.warmup)
    setup = ServerBench(
        texts=texts,
        languages=Languages(*options.languages),
        threads=threads,
        clients=options.clients,
        pace=pace,
        repeats=options.repeats,
        json=options.json,
        settings={**pace._asdict(), "source": options.source.name, "texts": len(texts), "threads": threads},
    )
    for label, bundle in bundles.items():
        spec = spec_of(bundle, label, None, None)
        setup.settings[f"{label}_precision"] = spec.precision
        with contextlib.closing(ProcessHost(spec.model_copy(update={"inter_threads": threads}), 1)) as host:
            if not options.overhead_only:
                measure_runtime(setup, label, host)
            measure_overhead(setup, label, bundle, host)
        if options.overhead_only:
            continue
        with launched(serve_command(setup, bundle)) as server:
            server_rows(setup, server, "compress", label, "native")
        if label in peers:
            measure_peers(setup, label, peers[label], base_precision(spec.precision), options.peers)


def _labelled(values: Sequence[str], option: str) -> dict[str, Path]:
    """Returns ``LABEL=DIR`` as a dictionary. Raises ConfigError for anything else."""
    pairs = [value.partition("=") for value in values]
    if wrong := [value for value, pair in zip(values, pairs, strict=True) if not (pair[0] and pair[2])]:
        raise ConfigError(f"{{{option}}} is {wrong[0]!r}: give LABEL=DIR", options=[option])
    return {label: Path(folder) for label, _, folder in pairs}
