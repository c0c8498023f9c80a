"""Loads a running server: closed loops of several clients, then an open loop at shares of the rate that they reached.

Latency counts from the time at which a request should have started, whether or not the server kept up. The server may
be any that speaks one of the dialects. If it runs on this machine, the processor time of its processes is read, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measure.result_file import Row
from benchmarks.serving import rows as result_rows
from benchmarks.serving.client import Address, Pool
from benchmarks.serving.dialects import DIALECTS, DialectName, Languages, messages
from benchmarks.serving.loops import OK, Window, closed_loop, open_loop
from benchmarks.serving.processes import ProcessUsage, listening_process, usage
from compressor.errors import CompressError, ConfigError, DataError

SHARES = (0.25, 0.5, 0.75, 0.9, 1.0, 1.2)
SERVERS = ("compress", "libretranslate", "fastapi-ctranslate2")
LOCAL = ("127.0.0.1", "::1", "localhost")


class LoadTarget(NamedTuple):
    """A server, and the requests for it."""

    address: Address
    requests: list[bytes]
    texts_per_request: int
    server: str = "compress"
    model: str = "student"
    batching: bool = True


class LoadWindow(NamedTuple):
    """How long each row is measured, in seconds, and how long its load runs before."""

    seconds: float = 10.0
    warmup_s: float = 2.0
    timeout_s: float = 60.0


async def measure(
    target: LoadTarget, clients: list[int], shares: list[float], rates: list[float], pace: LoadWindow, seed: int = 0
) -> list[Row]:
    """Returns a row for each number of clients, then one for each rate of an open loop.

    Args:
        target: The server and its requests.
        clients: Numbers of clients of closed loops.
        shares: Rates of open loops, as shares of the highest rate of the closed loops.
        rates: Further rates of open loops, in requests a second.
        pace: How long.
        seed: Of the times at which requests of an open loop start.
    """
    measured = [await closed_row(target, count, pace) for count in clients]
    rates = sorted([*(share * result_rows.saturation(measured) for share in shares), *rates])
    return measured + [await open_row(target, rate, pace, seed) for rate in rates if rate > 0]


async def closed_row(target: LoadTarget, clients: int, pace: LoadWindow) -> Row:
    """Returns the row of a closed loop."""
    meter = Meter(target.address)
    await closed_loop(target.address, target.requests, clients, pace.warmup_s, timeout_s=pace.timeout_s)
    meter.start()
    window = await closed_loop(target.address, target.requests, clients, pace.seconds, timeout_s=pace.timeout_s)
    return _row(target, window, meter.stop(), concurrency=clients)


async def open_row(target: LoadTarget, rate: float, pace: LoadWindow, seed: int) -> Row:
    """Returns the row of an open loop."""
    meter = Meter(target.address)
    starting = asyncio.get_running_loop().call_later(pace.warmup_s, meter.start)
    window = await open_loop(
        target.address, target.requests, rate, pace.seconds, warmup_s=pace.warmup_s, timeout_s=pace.timeout_s, seed=seed
    )
    starting.cancel()
    return _row(target, window, meter.stop(), offered_rps=rate)


def _row(
    target: LoadTarget,
    window: Window,
    cpu_seconds: dict[str, float],
    *,
    concurrency: int | None = None,
    offered_rps: float | None = None,
) -> Row:
    return result_rows.load_row(
        window,
        server=target.server,
        model=target.model,
        batching=target.batching,
        texts_per_request=target.texts_per_request,
        concurrency=concurrency,
        offered_rps=offered_rps,
        cpu_seconds=cpu_seconds,
    )


class Meter:
    """Processor time of a server and of this process between ``start`` and ``stop``."""

    def __init__(self, address: Address) -> None:
        self._pid = listening_process(address.port) if address.host in LOCAL else None
        self.start()

    def start(self) -> None:
        """Starts anew."""
        self._client, self._server = time.process_time(), self._read()

    def stop(self) -> dict[str, float]:
        """Returns the seconds since the start, by what used them; those of a server elsewhere are unknown."""
        return result_rows.cpu_seconds(self._server, self._read(), time.process_time() - self._client)

    def _read(self) -> ProcessUsage | None:
        return None if self._pid is None else usage(self._pid)


async def check_answers(target: LoadTarget, dialect: DialectName) -> None:
    """Raises CompressError unless the server answers the first request with one text for each of its texts."""
    pool = Pool(target.address, timeout_s=60)
    try:
        response = await pool.send(target.requests[0])
    except (OSError, TimeoutError) as error:
        raise CompressError(f"{target.address.host}:{target.address.port} does not answer ({error})") from None
    pool.close()
    try:
        texts = DIALECTS[dialect].outputs(json.loads(response.body)) if str(response.status) == OK else []
    except (ValueError, KeyError, TypeError):
        texts = []
    if len(texts) != target.texts_per_request:
        raise CompressError(
            f"the server's answer to the first request is not that of the {dialect} dialect: status {response.status}, "
            f"{response.body[:200].decode(errors='replace')}"
        )


def read_texts(path: Path, limit: int) -> list[str]:
    """Returns the first lines of a file that are not blank. Raises DataError where there are none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})") from None
    texts = [line for line in lines if line.strip()][:limit]
    if not texts:
        raise DataError(f"{path}: has no text")
    return texts


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say which server is loaded, and with what."""
    parser.add_argument("url", metavar="URL", help="the server: http://HOST:PORT")
    parser.add_argument("--source", type=Path, required=True, metavar="FILE", help="texts, one a line")
    parser.add_argument("--texts", type=int, default=1000, metavar="N", help="how many of them to use")
    parser.add_argument("--dialect", choices=sorted(DIALECTS), default="native", help="wire format of the requests")
    parser.add_argument("--languages", nargs=2, metavar=("FROM", "TO"), help="codes, where the server asks for them")
    parser.add_argument("--key", default="", help="bearer token")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_target_arguments(parser)
    parser.add_argument("--texts-per-request", type=int, default=1, metavar="N", help="texts in each request")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 32], metavar="N", help="clients of closed loops")
    parser.add_argument(
        "--shares", type=float, nargs="*", default=list(SHARES), metavar="S", help="rates as shares of saturation"
    )
    parser.add_argument("--rates", type=float, nargs="*", default=[], metavar="R", help="further rates, in requests/s")
    parser.add_argument("--seconds", type=float, default=10.0, help="measured seconds of each row")
    parser.add_argument("--warmup", type=float, default=2.0, help="seconds of load before them")
    parser.add_argument("--timeout", type=float, default=60.0, help="longest wait for a response, in seconds")
    parser.add_argument("--seed", type=int, default=0, help="of the times at which requests start")
    parser.add_argument("--server", choices=SERVERS, default="compress", help="the server's name in the result")
    parser.add_argument("--model", default="student", help="the model's name in the result")
    parser.add_argument("--no-batching", action="store_true", help="the server does not batch across requests")
    parser.add_argument("--json", type=Path, metavar="FILE", help="put the rows into this result file")


def run(options: argparse.Namespace) -> None:
    """Measures, writes the file, and prints a table."""
    if options.shares and not options.clients:
        raise ConfigError("{shares} are of the rate of closed loops: give {clients}", options=["shares", "clients"])
    address = Address.of(options.url)
    texts = read_texts(options.source, options.texts)
    requests = messages(
        options.dialect,
        address,
        texts,
        options.texts_per_request,
        languages=Languages(*(options.languages or ())),
        key=options.key,
    )
    target = LoadTarget(
        address, requests, options.texts_per_request, options.server, options.model, not options.no_batching
    )
    pace = LoadWindow(options.seconds, options.warmup, options.timeout)

    async def checked() -> list[Row]:
        await check_answers(target, options.dialect)
        return await measure(target, options.clients, options.shares, options.rates, pace, options.seed)

    rows = asyncio.run(checked())
    if options.json:
        settings: dict[str, Any] = {**pace._asdict(), "source": options.source.name, "texts": len(texts)}
        result_rows.write_result(options.json, "load", rows, settings | {"dialect": options.dialect})
    print_rows(rows)


def print_rows(rows: list[Row]) -> None:
    """Prints a line for each row."""
    for row in rows:
        load = f"{row['concurrency']} clients" if row["offered_rps"] is None else f"{row['offered_rps']:.1f} requests/s"
        latencies = " ".join(
            f"{row[name]:9.1f}" if row[name] is not None else " " * 9 for name in ("p50_ms", "p90_ms", "p99_ms")
        )
        failed = ", ".join(f"{count} x {kind}" for kind, count in row["errors"].items())
        print(f"{load:>18} {row['achieved_rps']:9.1f} answered/s  p50 p90 p99 ms {latencies}  {failed}")
