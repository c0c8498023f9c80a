"""Open and closed loops of requests, and what each request came to.

In an open loop requests start at random times of a given rate, whether or not the server keeps up: latency counts from
the intended start, so that a stalled server cannot hide the requests that it delays. In a closed loop a given number of
clients send their next request when the last is answered: that measures what a server can do.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks.serving.client import Address, Pool, ProtocolError

OK = "200"
TIMEOUT_SECONDS = 60.0
_RETRY_SECONDS = 0.01  # of a closed-loop client whose request failed: a refusal must not become a busy loop


class Outcome(NamedTuple):
    """One request: when it should have started and when it ended, on one clock in seconds, and how.

    ``kind`` is the status, or ``timeout``, ``connect``, ``closed`` (before the response was whole) or ``protocol``.
    """

    start: float
    end: float
    kind: str

    @property
    def seconds(self) -> float:
        """Latency from the intended start."""
        return self.end - self.start


class Window(NamedTuple):
    """What a loop came to after its warm-up.

    ``start`` and ``end``: the seconds in which ``outcomes`` were to start. ``answered``: requests that were answered in
    these seconds, those that were to start in the warm-up included: under overload an answer takes long.
    """

    start: float
    end: float
    outcomes: list[Outcome]
    answered: int

    @classmethod
    def of(cls, start: float, end: float, outcomes: Sequence[Outcome]) -> Window:
        """Returns the window of all outcomes of a loop."""
        answered = sum(one.kind == OK and start <= one.end <= end for one in outcomes)
        return cls(start, end, [one for one in outcomes if one.start >= start], answered)


async def send(pool: Pool, message: bytes, start: float) -> Outcome:
    """Sends a request that should have started at ``start``, and returns its outcome; it raises nothing."""
    try:
        kind = str((await pool.send(message)).status)
    except TimeoutError:
        kind = "timeout"
    except ConnectionRefusedError:
        kind = "connect"
    except ProtocolError:
        kind = "protocol"
    except OSError:
        kind = "closed"
    return Outcome(start, time.perf_counter(), kind)


async def closed_loop(
    address: Address,
    requests: Sequence[bytes],
    clients: int,
    seconds: float,
    *,
    timeout_s: float = TIMEOUT_SECONDS,
) -> Window:
    """Runs clients that send one request after the other.

    Args:
        address: The server's.
        requests: Requests, which the clients take in turn.
        clients: How many, each with one request under way.
        seconds: Length of the window.
        timeout_s: Longest wait for one response.
    """
    pool, supply = Pool(address, timeout_s), itertools.cycle(requests)
    begin = time.perf_counter()
    outcomes: list[Outcome] = []

    async def client() -> None:
        while (start := time.perf_counter()) < begin + seconds:
            outcome = await send(pool, next(supply), start)
            outcomes.append(outcome)
            if outcome.kind != OK:
                await asyncio.sleep(_RETRY_SECONDS)

    await asyncio.gather(*(client() for _ in range(clients)))
    pool.close()
    return Window.of(begin, begin + seconds, outcomes)


async def open_loop(
    address: Address,
    requests: Sequence[bytes],
    rate: float,
    seconds: float,
    *,
    warmup_s: float = 0.0,
    timeout_s: float = TIMEOUT_SECONDS,
    seed: int = 0,
) -> Window:
    """Sends requests at random times (a Poisson process), and waits for all responses.

    Args:
        address, requests, seconds, warmup_s, timeout_s: See ``closed_loop``.
        rate: Requests a second.
        seed: Of the random times.
    """
    pool, supply = Pool(address, timeout_s), itertools.cycle(requests)
    origin = time.perf_counter()
    tasks: list[asyncio.Task[Outcome]] = []
    for offset in arrivals(rate, warmup_s + seconds, seed):
        delay = origin + offset - time.perf_counter()
        if delay > 0:
            await asyncio.sleep(delay)
        tasks.append(asyncio.create_task(send(pool, next(supply), origin + offset)))
        if len(tasks) % 16 == 0:  # late: requests that were started must get their turn before further ones
            await asyncio.sleep(0)
    outcomes = await asyncio.gather(*tasks)
    pool.close()
    begin = origin + warmup_s
    return Window.of(begin, begin + seconds, outcomes)


def arrivals(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Yields the times of a Poisson process with ``rate`` events a second, from 0 to ``seconds``."""
    draws, now = random.Random(seed), 0.0
    while (now := now + draws.expovariate(rate)) < seconds:
        yield now
