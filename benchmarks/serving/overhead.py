"""Time that HTTP adds to a text: a request and a call of the runtime take turns, so that both see the same machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from benchmarks.engines.process import ProcessHost
from benchmarks.measure.timing import median
from benchmarks.serving.client import Address, Pool
from benchmarks.serving.loops import OK
from compressor.errors import CompressError

WARMUP = 16
"""Texts whose times are not counted."""


def http_overhead(address: Address, requests: Sequence[bytes], host: ProcessHost, texts: Sequence[str]) -> float:
    """Returns the median over texts of the time of a request less that of the runtime alone, in ms.

    Args:
        address: The server's, which nobody else uses.
        requests: One a text.
        host: The runtime, in a process of its own; its time is taken in that process.
        texts: More than ``WARMUP``.

    Raises:
        CompressError: a request fails.
    """
    added = asyncio.run(_take_turns(address, requests, host, texts))
    return round(median(added[WARMUP:]) * 1e3, 2)


async def _take_turns(
    address: Address, requests: Sequence[bytes], host: ProcessHost, texts: Sequence[str]
) -> list[float]:
    pool, added = Pool(address, timeout_s=60), []
    for message, text in zip(requests, texts, strict=True):
        alone = host.translate([text], 1).seconds
        start = time.perf_counter()
        response = await pool.send(message)
        seconds = time.perf_counter() - start
        if str(response.status) != OK:
            raise CompressError(f"the server answers {response.status}: {response.body[:200].decode(errors='replace')}")
        added.append(seconds - alone)
    pool.close()
    return added
