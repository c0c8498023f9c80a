"""Unusual and invalid text in Python, on the command line and over HTTP: whole answers or one clear error."""

from __future__ import annotations

import io
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from starlette.testclient import TestClient

from compressor.cli import main
from compressor.cli.errors import EXIT_CODES
from compressor.errors import DataError, InputError, TooLongError
from compressor.runtime.generator import Generator
from serving.app import build_app
from serving.settings import Settings

DOG, DOCTOR = "Der Hund sieht den Baum.", "Der Arzt ruft den Mann."

TEXTS = {
    "empty": "",
    "white space": " \t\u3000\u00a0",
    "white space and line breaks": " \n\r\n\u2028 ",
    "CRLF": f"{DOG}\r\n{DOCTOR}\r\n",
    "Unicode separators": f"{DOG}\u2028{DOCTOR}\u2029{DOG}\x85{DOCTOR}\x0b{DOG}\x0c{DOCTOR}",
    "carriage return": f"{DOG}\r{DOCTOR}",
    "10,000 lines": f"{DOG}\n" + "42\n" * 9_990 + f"{DOCTOR}\n\n\n" + f"{DOG}\n" * 6,
    "a long number": "1" * 100_000,
}
"""Texts of which everything but the two sentences stays as it is; a blank one is empty, and the server refuses it."""

ODD = {
    "NUL": "Der Hund\x00 sieht den Baum.\x00",
    "controls": "Der \x01Hund\x1b[31m sieht\x7f den Baum.",
    "right to left": "مرحبا بالعالم. שלום עולם.",
    "mixed scripts": "Der Hund \u202eden\u202c שלום, 你好, привет.",
    "combining marks": "Der Hu\u0308nd sieht de\u0301n Ba\u030aum.",
    "many combining marks": "Hund" + "\u0301" * 300,
    "emoji": "👩‍👩‍👧 Der Hund 🎉 sieht den Baum 🇩🇪.",
    "control tokens": "</s> Hund </s>. <unk> Baum.",
    "byte order mark": "\ufeffDer Hund sieht den Baum.",
    "noncharacters": "Der \ufffe\uffff\U0010ffff Hund",
    "a word of one letter": "x" * 100_000,
}
"""Texts that are answered somehow, and by all the same."""


class Answer(NamedTuple):
    code: int
    out: str
    error: str


Run = Callable[..., Answer]


@pytest.fixture(scope="module")
def generator(tiny_bundle: Path) -> Generator:
    return Generator.load(tiny_bundle, intra_threads=1, inter_threads=1)


@pytest.fixture(scope="module")
def client(tiny_bundle: Path) -> Iterator[TestClient]:
    with TestClient(build_app(Settings(bundles=[tiny_bundle], threads=1))) as client:
        while client.get("/readyz").status_code != 200:
            time.sleep(0.02)
        yield client


@pytest.fixture
def run(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Runs ``compress translate`` in this process."""

    def run(*options: str, text: bytes) -> Answer:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text)))
        with pytest.raises(SystemExit) as end:
            main(["translate", str(tiny_bundle), "--threads", "1", *options])
        assert isinstance(end.value.code, int)
        out, error = capsysbinary.readouterr()
        return Answer(end.value.code, out.decode(), error.decode())

    return run


def served(client: TestClient, *texts: str, **fields: Any) -> Any:
    content = json.dumps({"inputs": list(texts), **fields})
    return client.post("/v1/translate", content=content, headers={"content-type": "application/json"})


def everywhere(text: str, generator: Generator, client: TestClient, run: Run) -> str:
    """The output of a text, which is the same by the Python API, the server, JSON lines and, where it may, a line."""
    first, output, last = (one.text for one in generator.generate([DOG, text, DOCTOR]))
    assert (first, last) == tuple(one.text for one in generator.generate([DOG, DOCTOR]))
    assert "".join(generator.stream(text)) == output
    answer = served(client, text).json()
    if text.strip():
        assert [one["text"] for one in answer["outputs"]] == [output]
    else:
        assert answer["errors"] == [{"message": "is an empty text", "pointer": "/inputs/0"}]
    lines = "".join(f"{json.dumps(one)}\n" for one in (DOG, text, DOCTOR))
    printed = run("--jsonl", text=lines.encode())
    assert (printed.code, printed.error) == (0, "")
    assert [json.loads(line)["text"] for line in printed.out.split("\n")[:-1]] == [first, output, last]
    if not {"\n", "\r"} & set(text):
        assert run(text=f"{DOG}\n{text}\n{DOCTOR}".encode()).out == f"{first}\n{output}\n{last}"
    return output


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_what_is_around_sentences_stays(text: str, generator: Generator, client: TestClient, run: Run) -> None:
    dog, doctor = (one.text for one in generator.generate([DOG, DOCTOR]))
    expected = text.replace(DOG, dog).replace(DOCTOR, doctor) if text.strip() or "\n" in text else ""
    assert everywhere(text, generator, client, run) == expected
    document = run("--document", text=text.encode())
    assert (document.code, document.out) == (0, expected or "\n" * text.endswith("\n"))


@pytest.mark.parametrize("text", ODD.values(), ids=ODD.keys())
def test_odd_text_is_answered_by_all_the_same(text: str, generator: Generator, client: TestClient, run: Run) -> None:
    output = everywhere(text, generator, client, run)
    assert output.encode() and output.count("</s>") == text.count("</s>")
    assert all(word in output for word in re.findall("[\u0400-\u06ff\u4e00-\u9fff]+", text))  # of other scripts


def test_a_word_over_the_limit_is_refused_cut_or_read_in_parts(
    generator: Generator, client: TestClient, run: Run
) -> None:
    word = "Hund" * 25_000
    with pytest.raises(TooLongError) as error:
        generator.generate([DOG, word])
    assert [index for index, _ in error.value.texts] == [1]
    refused = served(client, DOG, word)
    assert refused.status_code == 422 and [one["pointer"] for one in refused.json()["errors"]] == ["/inputs/1"]
    answer = run(text=f"{DOG}\n\n{word}\n{DOG}\n".encode())
    assert answer.out == f"{generator.generate([DOG])[0].text}\n\n" and answer.error.startswith("error: line 3 has ")
    assert (answer.code, answer.error.count("\n")) == (EXIT_CODES[InputError], 1)
    assert generator.generate([word], truncation="longest_first")[0].truncated
    parts = generator.generate([word[:2000]], truncation="split")[0]
    assert not parts.truncated and len(parts.sentences) > 10


@pytest.mark.parametrize("surrogate", ["\ud800", "\udfff", "\udc00\ud800"])
def test_a_lone_surrogate_is_refused_with_its_place(
    surrogate: str, generator: Generator, client: TestClient, run: Run
) -> None:
    text = f"Der {surrogate} Hund."
    with pytest.raises(InputError, match="no valid Unicode at character 5") as error:
        generator.generate([DOG, text])
    assert error.value.index == 1
    assert served(client, DOG, text).status_code == 400
    answer = run("--jsonl", text=f'{json.dumps(DOG)}\n""\n{json.dumps(text)}\n'.encode())
    assert answer.out.count("\n") == 2 and answer.code == EXIT_CODES[InputError]
    assert answer.error == "error: line 3: no valid Unicode at character 5\n"


INVALID = [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xc0\x80"]


@pytest.mark.parametrize("wrong", INVALID)
@pytest.mark.parametrize("options", [[], ["--document"], ["--jsonl"]], ids=str)
def test_invalid_utf8_is_one_error_with_its_line(
    wrong: bytes, options: list[str], client: TestClient, run: Run
) -> None:
    before = f'"{DOG}"\n"a\u2028b\x85c"\n"'.encode()
    answer = run(*options, text=before + b"Hund " + wrong + b' Hund"\n"Hund"\n')
    assert answer.error.splitlines()[-1] == "error: line 3: not UTF-8 (byte 7); convert the input first"
    assert answer.code == EXIT_CODES[DataError] and answer.out.count("\n") == (0 if "--document" in options else 2)
    content = b'{"inputs": "Hund ' + wrong + b'"}'
    headers = {"content-type": "application/json"}
    assert client.post("/v1/translate", content=content, headers=headers).status_code == 400
