"""Measures a server under ten times its capacity: an engine of a set speed, before, during and after the overload.

Requests that are admitted must stay fast, the rest must be refused at once, and afterwards the server must answer as
when idle.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

from benchmarks.serving import rows as result_rows
from benchmarks.serving.client import Address
from benchmarks.serving.dialects import messages
from benchmarks.serving.launch import launched, python_module
from benchmarks.serving.loops import closed_loop, open_loop

REFUSED = "429"
RECOVERY_SECONDS = 1.0
IDLE_SECONDS = 3.0


async def overload(address: Address, rate: float, seconds: float) -> dict[str, Any]:
    """Returns latencies of a server when idle, under ``rate`` requests a second, and one second later.

    Args:
        address: The server's.
        rate: Requests a second of the open loop.
        seconds: How long.
    """
    requests = messages("native", address, [f"Satz Nummer {index}" for index in range(100)])
    idle_s = min(IDLE_SECONDS, seconds)
    idle = await closed_loop(address, requests, 1, idle_s)
    loaded = await open_loop(address, requests, rate, seconds)
    await asyncio.sleep(RECOVERY_SECONDS)
    after = await closed_loop(address, requests, 1, idle_s)
    outcomes = loaded.outcomes
    return {
        "seconds": seconds,
        "offered_rps": rate,
        "idle": result_rows.percentiles(idle),
        "admitted": result_rows.percentiles(loaded) | {"requests": sum(one.kind == "200" for one in outcomes)},
        "refused": result_rows.percentiles(loaded, REFUSED)
        | {"requests": sum(one.kind == REFUSED for one in outcomes)},
        "errors": {kind: count for kind, count in result_rows.errors(loaded).items() if kind != REFUSED},
        "after": result_rows.percentiles(after) | {"errors": result_rows.errors(after)},
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--capacity", type=float, default=50.0, help="requests a second that the engine can do")
    parser.add_argument("--times", type=float, default=10.0, help="how many times that are sent")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long")
    parser.add_argument("--queue-items", type=int, default=64, help="texts that the server admits at a time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="put the result into this result file")


def run(options: argparse.Namespace) -> None:
    """Starts the server, measures, writes the file, and prints the latencies."""
    arguments = [f"--rate={options.capacity}", f"--queue-items={options.queue_items}"]
    with launched(python_module("benchmarks.serving.paced", *arguments)) as server:
        result = asyncio.run(overload(Address.of(server.url), options.capacity * options.times, options.seconds))
    result = {"capacity_rps": options.capacity, "queue_items": options.queue_items, **result}
    if options.json:
        result_rows.write_result(options.json, "overload", result, {})
    for name in ("idle", "admitted", "refused", "after"):
        part = result[name]
        count = f"{part['requests']:7d} requests" if "requests" in part else " " * 16
        latencies = ("-" if part[key] is None else f"{part[key]:.1f}" for key in ("p50_ms", "p90_ms", "p99_ms"))
        print(f"{name:<9} {count}   p50 p90 p99 ms  {'  '.join(latencies)}")
    print(f"other errors: {result['errors'] or 'none'}")
