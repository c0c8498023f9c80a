"""Open and closed loops against a server of a few lines."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from benchmarks.serving.client import Address, encode_request
from benchmarks.serving.loops import Outcome, Window, arrivals, closed_loop, open_loop

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def requests(address: Address, count: int = 3) -> list[bytes]:
    return [encode_request("POST", "/", address, str(number).encode()) for number in range(count)]


def test_arrivals_are_a_poisson_process() -> None:
    times = list(arrivals(100, 200, seed=0))
    gaps = [later - earlier for earlier, later in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert len(times) == pytest.approx(100 * 200, rel=0.03)
    assert deviation == pytest.approx(mean, rel=0.05)  # of an exponential distribution
    assert times == list(arrivals(100, 200, seed=0)) != list(arrivals(100, 200, seed=1))


def test_an_open_loop_counts_from_the_intended_start_although_all_is_stalled(serving_answers: Any) -> None:
    """The server blocks the generator itself: late requests keep the start that they should have had."""
    stalls = iter([0.2])

    def answer(_: bytes) -> bytes:
        time.sleep(next(stalls, 0))
        return OK

    async def measure() -> Window:
        async with serving_answers(answer) as address:
            return await open_loop(address, requests(address), 100, 0.4, seed=5)

    window = asyncio.run(measure())
    expected = list(arrivals(100, 0.4, seed=5))
    offsets = [outcome.start - window.start for outcome in window.outcomes]
    assert offsets == pytest.approx(expected)
    assert {outcome.kind for outcome in window.outcomes} == {"200"}
    assert all(outcome.seconds > 0 for outcome in window.outcomes)


def test_the_warm_up_of_an_open_loop_is_not_in_its_window(serving_answers: Any) -> None:
    async def measure() -> Window:
        async with serving_answers(lambda _: OK) as address:
            return await open_loop(address, requests(address), 200, 0.1, warmup_s=0.2, seed=2)

    window = asyncio.run(measure())
    assert len(window.outcomes) == sum(offset >= 0.2 for offset in arrivals(200, 0.1 + 0.2, seed=2))


def test_a_closed_loop_has_as_many_requests_under_way_as_clients(serving_answers: Any) -> None:
    bodies: list[bytes] = []

    def answer(body: bytes) -> bytes:
        bodies.append(body)
        return OK

    async def measure() -> Window:
        async with serving_answers(answer) as address:
            return await closed_loop(address, requests(address), 2, 0.1)

    window = asyncio.run(measure())
    assert len(window.outcomes) == len(bodies) > 2
    counts = Counter(bodies)
    assert max(counts.values()) - min(counts.values()) <= 1, "the requests take turns"
    events = sorted([(one.start, 1) for one in window.outcomes] + [(one.end, -1) for one in window.outcomes])
    under_way = 0
    for _, change in events:
        under_way += change
        assert under_way <= 2


KINDS = [
    (b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n", "429"),
    (b"", "closed"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "timeout"),
    (b"HTTP/1.1 200 OK\r\n\r\n", "protocol"),
]


@pytest.mark.parametrize(("answer", "kind"), KINDS, ids=[kind for _, kind in KINDS])
def test_a_failed_request_is_an_outcome_of_its_kind(serving_answers: Any, answer: bytes, kind: str) -> None:
    async def measure() -> list[Outcome]:
        async with serving_answers(lambda _: answer) as address:
            return (await open_loop(address, requests(address), 50, 0.1, timeout_s=0.2)).outcomes

    assert {outcome.kind for outcome in asyncio.run(measure())} == {kind}


def test_a_server_that_is_not_there_is_an_outcome(serving_answers: Any) -> None:
    async def measure() -> list[Outcome]:
        async with serving_answers(lambda _: OK) as address:
            pass
        return (await closed_loop(address, requests(address), 1, 0.02)).outcomes

    assert {outcome.kind for outcome in asyncio.run(measure())} == {"connect"}
