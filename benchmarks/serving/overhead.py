"""Time that HTTP adds to a text: requests and calls of the runtime take turns, so that all see the same machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from benchmarks.engines.process import ProcessHost
from benchmarks.measure.timing import median
from benchmarks.serving.client import Address, Pool
from benchmarks.serving.dialects import messages
from benchmarks.serving.loops import OK
from compressor.errors import CompressError

WARMUP = 16
"""Texts whose times are not counted."""


def http_overhead(servers: Mapping[str, Address], host: ProcessHost, texts: Sequence[str]) -> dict[str, float]:
    """Returns the median over texts of the time of a request less that of the runtime alone, in ms, by server.

    Args:
        servers: Addresses of servers with the native contract, which nobody else uses.
        host: The runtime, in a process of its own; its time is taken in that process.
        texts: More than ``WARMUP``.

    Raises:
        CompressError: a request fails.
    """
    added = asyncio.run(_take_turns(servers, host, texts))
    return {name: round(median(seconds[WARMUP:]) * 1e3, 2) for name, seconds in added.items()}


async def _take_turns(
    servers: Mapping[str, Address], host: ProcessHost, texts: Sequence[str]
) -> dict[str, list[float]]:
    """Returns the seconds that each server adds to each text."""
    pools = {name: Pool(address, timeout_s=60) for name, address in servers.items()}
    added = {name: list[float]() for name in servers}
    for text in texts:
        alone = host.translate([text], 1).seconds
        for name, pool in pools.items():
            (message,) = messages("native", servers[name], [text])
            start = time.perf_counter()
            response = await pool.send(message)
            added[name].append(time.perf_counter() - start - alone)
            if str(response.status) != OK:
                answer = response.body[:200].decode(errors="replace")
                raise CompressError(f"{name} answers {response.status}: {answer}")
    for pool in pools.values():
        pool.close()
    return added
