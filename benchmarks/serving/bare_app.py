"""The least that a server of a bundle can be: uvicorn and threads that run the runtime. Nothing is checked or counted.

What HTTP adds to a text here is what it must add on this machine; ``compress serve`` is measured beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from compressor.runtime.generator import Generator
from serving.app import listen


def bare_app(generator: Generator, threads: int) -> ASGIApp:
    """Returns an application that answers any POST with ``{"inputs": [TEXT]}``, which must come in one piece."""
    pool = ThreadPoolExecutor(threads)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        outputs: list[str] = []
        if scope["method"] == "POST":
            texts = json.loads((await receive())["body"])["inputs"]
            results = await asyncio.get_running_loop().run_in_executor(pool, generator.generate, texts)
            outputs = [result.text for result in results]
        body = json.dumps({"outputs": outputs}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves until it is stopped; prints where it listens."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.serving.bare_app", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("bundle", type=Path, help="bundle folder")
    parser.add_argument("--threads", type=int, default=1, help="searches at a time, with one thread each")
    options = parser.parse_args(arguments)
    generator = Generator.load(options.bundle, intra_threads=1, inter_threads=1)
    listener = listen("127.0.0.1", 0)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", file=sys.stderr, flush=True)
    config = uvicorn.Config(bare_app(generator, options.threads), log_level="warning", access_log=False, lifespan="off")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
