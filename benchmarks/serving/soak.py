"""Loads a server with texts of mixed lengths for a long time, and samples its memory, threads and file descriptors.

A server that is healthy has as many of them at the end as after its first minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure.timing import growth
from benchmarks.serving import rows as result_rows
from benchmarks.serving.client import Address
from benchmarks.serving.dialects import DialectName, Languages, messages
from benchmarks.serving.load import add_target_arguments, read_texts
from benchmarks.serving.loops import closed_loop
from benchmarks.serving.processes import ProcessUsage, listening_process, usage
from compressor.errors import CompressError

SAMPLES = 120
"""Readings of a whole measurement."""


def mixed_requests(
    dialect: DialectName, address: Address, texts: Sequence[str], languages: Languages, key: str = "", seed: int = 0
) -> list[bytes]:
    """Returns requests of 1 to 16 texts of 1 to 20 lines each, most of them small."""
    draws, requests = random.Random(seed), list[bytes]()
    for _ in range(500):
        count, lines = min(16, int(draws.paretovariate(1.0))), min(20, int(draws.paretovariate(0.8)))
        group = [" ".join(draws.choices(texts, k=lines)) for _ in range(count)]
        requests += messages(dialect, address, group, count, languages=languages, key=key)
    return requests


async def soak(address: Address, requests: Sequence[bytes], clients: int, minutes: float) -> dict[str, Any]:
    """Returns the samples of a loaded server, and what its requests came to.

    Args:
        address: The server's, on this machine.
        requests: Requests that the clients take in turn.
        clients: How many, each with one request under way.
        minutes: How long.

    Raises:
        CompressError: no process of this machine is seen to listen there, or it ended.
    """
    pid = listening_process(address.port)
    if pid is None:
        raise CompressError(f"no process of this machine that this user may look at listens on port {address.port}")
    loading = asyncio.create_task(closed_loop(address, requests, clients, minutes * 60))
    samples: list[ProcessUsage] = []
    start = time.monotonic()
    while not loading.done():
        reading = usage(pid)
        if reading is None:
            loading.cancel()
            raise CompressError("the server ended")
        samples.append(reading)
        due = start + len(samples) * minutes * 60 / SAMPLES
        await asyncio.wait({loading}, timeout=max(0.0, due - time.monotonic()))
    window = loading.result()
    return {
        "minutes": minutes,
        "clients": clients,
        "requests": len(window.outcomes),
        "errors": result_rows.errors(window),
        **result_rows.percentiles(window),
        "rss_mb": [round(sample.rss_mb, 1) for sample in samples],
        "threads": [sample.threads for sample in samples],
        "fds": [sample.fds for sample in samples],
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_target_arguments(parser)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long")
    parser.add_argument("--clients", type=int, default=8, help="requests under way at a time")
    parser.add_argument("--seed", type=int, default=0, help="of the lengths")
    parser.add_argument("--json", type=Path, metavar="FILE", help="put the result into this result file")


def run(options: argparse.Namespace) -> None:
    """Measures, writes the file, and prints what grew."""
    address, texts = Address.of(options.url), read_texts(options.source, options.texts)
    languages = Languages(*(options.languages or ()))
    requests = mixed_requests(options.dialect, address, texts, languages, options.key, options.seed)
    result = asyncio.run(soak(address, requests, options.clients, options.minutes))
    if options.json:
        result_rows.write_result(options.json, "soak", result, {"source": options.source.name, "seed": options.seed})
    print(f"{result['requests']} requests in {options.minutes:g} minutes; errors: {result['errors'] or 'none'}")
    for name, what in (("rss_mb", "memory, MB"), ("threads", "threads"), ("fds", "file descriptors")):
        values = result[name]
        print(f"{what:<17} {min(values):g} to {max(values):g}, at the end {values[-1]:g} ({growth(values):+.1%})")
