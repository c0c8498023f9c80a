"""A server in a process of its own, with a real bundle, where importing torch fails."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from compressor.errors import ConfigError
from compressor.runtime.generator import Generator
from serving.app import serve
from serving.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_TORCH = """
import sys
sys.modules.update(dict.fromkeys(["torch", "transformers", "onnx", "onnxscript", "safetensors"]))  # importing one fails
"""
SERVE = (
    WITHOUT_TORCH
    + """
from serving.app import serve
from serving.settings import Settings
serve(Settings.model_validate_json(sys.argv[1]))
"""
)


class Process(NamedTuple):
    client: httpx.Client
    process: subprocess.Popen[str]
    log: list[str]


def begin(bundle: Path, **settings: Any) -> subprocess.Popen[str]:
    values = {"bundles": [str(bundle)], "port": 0, "threads": 1, **settings}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SERVE, json.dumps(values)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


@pytest.fixture(scope="module")
def served(tiny_bundle: Path) -> Iterator[Process]:
    with begin(tiny_bundle, grace_seconds=2) as process:
        assert process.stderr is not None
        log: list[str] = []
        try:
            while not (address := re.search(r"listening on (http://127\.0\.0\.1:\d+)", log[-1] if log else "")):
                log.append(process.stderr.readline())
                assert log[-1], "".join(log)
            reader = threading.Thread(target=log.extend, args=(process.stderr,))
            reader.start()
            with httpx.Client(base_url=address[1], trust_env=False, timeout=20) as client:
                end = time.monotonic() + 20
                while client.get("/readyz").status_code != 200:
                    assert time.monotonic() < end and process.poll() is None, "".join(log)
                    time.sleep(0.05)
                yield Process(client, process, log)
        finally:
            process.kill()
            reader.join()


def test_outputs_match_the_runtime_for_each_text_alone_and_together(
    served: Process, tiny_bundle: Path, tiny_corpus: Path
) -> None:
    texts = (tiny_corpus / "dev.de").read_text(encoding="utf-8").splitlines()[:6]
    texts.append(f"{texts[0]}\n{texts[1].upper()}")  # in capitals, which the bundle reads as usual
    expected = Generator.load(tiny_bundle, intra_threads=1).generate(texts)
    answer = served.client.post("/v1/translate", json={"inputs": texts, "source": "de", "target": "en"}).json()
    for result, output in zip(expected, answer["outputs"], strict=True):
        assert (output["text"], output["input_tokens"], output["output_tokens"]) == (
            result.text,
            result.input_tokens,
            result.output_tokens,
        )
    assert answer["usage"]["input_tokens"] == sum(result.input_tokens for result in expected)
    for text, result in zip(texts, expected, strict=True):
        alone = served.client.post("/v1/translate", json={"inputs": text}).json()
        assert alone["outputs"][0]["text"] == result.text


@pytest.mark.parametrize("num_beams", [1, 2])
@pytest.mark.parametrize("option", [{"min_new_tokens": 12}, {"min_new_tokens": 12, "no_repeat_ngram_size": 1}], ids=str)
def test_search_options_reach_the_graph(
    served: Process, tiny_bundle: Path, option: dict[str, int], num_beams: int
) -> None:
    text, options = "Der Hund sieht den Baum.", {"num_beams": num_beams, "max_new_tokens": 16, **option}
    (expected,) = Generator.load(tiny_bundle, intra_threads=1).generate([text], **options)
    (output,) = served.client.post("/v1/translate", json={"inputs": text, "parameters": options}).json()["outputs"]
    assert (output["text"], output["output_tokens"]) == (expected.text, expected.output_tokens)
    assert output["output_tokens"] > 12


def test_a_streamed_output_is_the_same_text(served: Process, tiny_bundle: Path) -> None:
    text = "Der Hund sieht den Baum. DER MANN SIEHT DEN BAUM."
    answer = served.client.post("/v1/translate", json={"inputs": text, "stream": True})
    pieces = [json.loads(line[6:]).get("delta", "") for line in answer.text.splitlines() if line.startswith("data: ")]
    assert "".join(pieces) == Generator.load(tiny_bundle, intra_threads=1).generate([text])[0].text != ""


def test_a_text_at_the_token_limit_is_accepted_and_one_token_more_is_not(served: Process, tiny_bundle: Path) -> None:
    generator = Generator.load(tiny_bundle, intra_threads=1)
    limit, tokens = generator.manifest.max_source_tokens, generator.tokenizer.encode_source
    words = next(count for count in range(limit, 0, -1) if len(tokens(" ".join(["Hund"] * count))) <= limit)
    fits, over = " ".join(["Hund"] * words), " ".join(["Hund"] * (words + 1))
    few = {"max_new_tokens": 2}
    post = served.client.post
    (output,) = post("/v1/translate", json={"inputs": fits, "parameters": few}).json()["outputs"]
    assert (output["truncated"], output["input_tokens"]) == (False, len(tokens(fits)))
    refused = post("/v1/translate", json={"inputs": over})
    assert refused.status_code == 422
    assert f"{len(tokens(over))} tokens, the limit is {limit}" in refused.json()["detail"]
    cut = {"inputs": over, "truncation": "longest_first", "parameters": few}
    (output,) = post("/v1/translate", json=cut).json()["outputs"]
    assert (output["truncated"], output["input_tokens"]) == (True, limit)


def test_sigterm_finishes_requests_and_exits_with_0(served: Process) -> None:
    """Requests are answered until the listener closes. It must be the last test with this process."""
    statuses: list[int] = []
    served.process.send_signal(signal.SIGTERM)
    with pytest.raises(httpx.TransportError):  # refused, or closed before it was read
        while True:
            answer = served.client.post("/v1/translate", json={"inputs": "Der Hund"}, headers={"connection": "close"})
            statuses.append(answer.status_code)
    assert set(statuses) == {200}
    assert served.process.wait(20) == 0
    assert served.process.stdout is not None and served.process.stdout.read() == ""


def test_a_damaged_bundle_ends_the_process_with_an_error(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("{}")
    with begin(tmp_path) as process:
        _, log = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "BundleError" in log.splitlines()[-1] and "format version" in log.splitlines()[-1]
    assert log.count("format version") == 1  # it is raised, not logged as well


def test_a_port_in_use_is_a_config_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
            serve(Settings(bundles=[Path("x")], port=port))
