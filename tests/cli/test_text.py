"""``compress translate`` and ``compress summarize``: lines in, lines out."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from compressor.bundle import MANIFEST_FILE
from compressor.cli import main
from compressor.cli.endings import Endings
from compressor.cli.errors import EXIT_CODES
from compressor.cli.textstream import chunks
from compressor.errors import BundleError, DataError, InputError
from compressor.runtime.generator import Generator
from compressor.runtime.results import FinishReason, Result

DOG, DOCTOR = "Der Hund sieht den Baum.", "Der Arzt ruft den Mann."


class Pipe(io.BytesIO):
    """Brings a few bytes a read, as a slow writer would."""

    def read1(self, size: int | None = -1, /) -> bytes:
        return super().read1(3)


def compress(*arguments: str | Path, text: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "compressor", *map(str, arguments)], input=text, capture_output=True)


@pytest.fixture(scope="module")
def outputs(tiny_bundle: Path) -> dict[str, str]:
    texts = [DOG, DOCTOR]
    return {text: result.text for text, result in zip(texts, Generator.load(tiny_bundle).generate(texts), strict=True)}


@pytest.mark.parametrize("stream", [io.BytesIO, Pipe])
@pytest.mark.parametrize(
    ("text", "lines", "terminated"),
    [
        ("", [], True),
        ("a", ["a"], False),
        ("a\n", ["a"], True),
        ("ä\n\n b \nc", ["ä", "", " b ", "c"], False),
        ("a\r\nb\n", ["a", "b"], True),
        ("a\u2028b\x0bc\x85d\n", ["a\u2028b\x0bc\x85d"], True),
    ],
)
def test_chunks_split_lines_at_newlines_only(
    stream: type[io.BytesIO], text: str, lines: list[str], terminated: bool
) -> None:
    read = list(chunks(stream(text.encode())))
    assert [line for chunk, _ in read for line in chunk] == lines
    assert all(ended for _, ended in read[:-1]) and [ended for _, ended in read[-1:]] in ([], [terminated])


@pytest.mark.parametrize("stream", [io.BytesIO, Pipe])
def test_invalid_utf8_is_reported_with_its_line(stream: type[io.BytesIO]) -> None:
    with pytest.raises(DataError, match=r"^line 3: not UTF-8 \(byte 2\)"):
        list(chunks(stream(b"a\n\xc3\xa4\nb\xff\nc\n")))


@pytest.mark.parametrize("end", ["\n", ""])
def test_output_has_one_line_per_input_line(tiny_bundle: Path, outputs: dict[str, str], end: str) -> None:
    text = f"{DOG}\n\n  \n{DOCTOR}\r\n{DOG}{end}"
    done = compress("translate", tiny_bundle, text=text.encode())
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == f"{outputs[DOG]}\n\n\n{outputs[DOCTOR]}\n{outputs[DOG]}{end}"
    assert done.stderr == b""  # quiet where nobody watches


def test_json_prints_one_object_per_line(tiny_bundle: Path, outputs: dict[str, str]) -> None:
    done = compress("translate", tiny_bundle, "--json", "--precision", "fp32", text=f"{DOG}\n\n".encode())
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first["finish_reason"] == "eos" and first["output_tokens"] == len(first["token_ids"]) > 1
    assert second["text"] == ""


def test_outputs_that_are_not_whole_are_named_on_standard_error(tiny_bundle: Path) -> None:
    text = f"{DOG}\n\n{DOCTOR}\n".encode()
    done = compress("translate", tiny_bundle, "--max-new-tokens", "3", text=text)
    message = "line {}: output stopped at the limit of 3 tokens\n"
    assert (done.returncode, done.stderr.decode()) == (0, message.format(1) + message.format(3))
    as_json = compress("translate", tiny_bundle, "--max-new-tokens", "3", "--json", text=text)
    assert [json.loads(line)["finish_reason"] for line in as_json.stdout.splitlines()] == ["length", "eos", "length"]
    assert as_json.stderr == done.stderr


def test_many_outputs_that_are_not_whole_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    reasons: list[FinishReason] = ["eos", *["length"] * 8, *["repetition"] * 5]
    with Endings() as endings:
        for line, reason in enumerate(reasons, 1):
            endings.add(f"line {line}", Result("", [], 5, 7, False, reason))
    *named, count = capsys.readouterr().err.splitlines()
    assert named == [
        *(f"line {line}: output stopped at the limit of 7 tokens" for line in range(2, 10)),
        *(f"line {line}: output repeated itself; cut after 7 tokens" for line in (10, 11)),
    ]
    assert count == "13 outputs are not whole: 8 stopped at the limit, 5 at a repetition"


@pytest.mark.parametrize(
    ("command", "options", "text", "code", "message"),
    [
        ("translate", [], f"{DOG}\n{DOG * 5}\n", EXIT_CODES[InputError], "line 2 has "),
        ("translate", [], f"{DOG}\n\udcff\n", EXIT_CODES[DataError], "line 2: not UTF-8"),
        ("translate", ["--num-beams", "300"], f"{DOG}\n", EXIT_CODES[InputError], "--num-beams is 300"),
        ("translate", ["--precision", "int4"], f"{DOG}\n", EXIT_CODES[InputError], "fp32, int8"),
        ("translate", ["--expect-digest", "0" * 64], f"{DOG}\n", EXIT_CODES[BundleError], "digest"),
        ("summarize", [], f"{DOG}\n", EXIT_CODES[InputError], "compress translate"),
    ],
)
def test_input_errors_are_one_line(
    tiny_bundle: Path, command: str, options: list[str], text: str, code: int, message: str
) -> None:
    done = compress(command, tiny_bundle, *options, text=text.encode("utf-8", "surrogateescape"))
    error = done.stderr.decode()
    assert (done.returncode, error.count("\n")) == (code, 1)
    assert error.startswith("error: ") and message in error


def test_truncate_cuts_long_lines(tiny_bundle: Path) -> None:
    done = compress("translate", tiny_bundle, "--truncate", "--json", text=(DOG * 5 + "\n").encode())
    assert done.returncode == 0 and json.loads(done.stdout)["truncated"] is True


def test_closed_output_pipe_is_no_error(tiny_bundle: Path) -> None:
    program = [sys.executable, "-m", "compressor", "translate", str(tiny_bundle)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.write(f"{DOG}\n".encode())
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


class Done(NamedTuple):
    """What a command printed, and its exit code."""

    returncode: int
    stdout: bytes
    stderr: bytes


Run = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Runs a command in this process, which saves its start."""

    def run(*arguments: str | Path, text: bytes) -> Done:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text)))
        with pytest.raises(SystemExit) as end:
            main([*map(str, arguments), "--threads", "1"])
        assert isinstance(end.value.code, int)
        return Done(end.value.code, *capsysbinary.readouterr())

    return run


def test_sentences_of_a_line_are_translated_one_by_one(run: Run, tiny_bundle: Path, outputs: dict[str, str]) -> None:
    text = f"  - {DOG} {DOCTOR}\n42 %s\n"
    done = run("translate", tiny_bundle, text=text.encode())
    assert done.stdout.decode() == f"  - {outputs[DOG]} {outputs[DOCTOR]}\n42 %s\n"
    whole = Generator.load(tiny_bundle).generate(["Der Hund. Der Mann."], split="none")[0].text
    done = run("translate", tiny_bundle, "--split", "none", text=b"Der Hund. Der Mann.\n")
    assert done.stdout.decode() == f"{whole}\n"


@pytest.mark.parametrize("end", ["\n", "", "\r\n\r\n"])
def test_a_document_is_read_whole(run: Run, tiny_bundle: Path, outputs: dict[str, str], end: str) -> None:
    text = f"# {DOG}\r\n\r\n> {DOCTOR} {DOG}{end}"
    done = run("translate", tiny_bundle, "--document", text=text.encode())
    assert done.stdout.decode() == f"# {outputs[DOG]}\r\n\r\n> {outputs[DOCTOR]} {outputs[DOG]}{end}"
    done = run("translate", tiny_bundle, "--document", "--json", text=text.encode())
    assert len(json.loads(done.stdout)["sentences"]) == 3


def test_json_lines_in_and_out(run: Run, tiny_bundle: Path, outputs: dict[str, str]) -> None:
    records: list[Any] = [{"source": f"{DOG}\n\n{DOCTOR}\n", "target": "x"}, DOG, {"source": ""}]
    text = "".join(json.dumps(record) + "\n" for record in records)
    done = run("translate", tiny_bundle, "--jsonl", text=text.encode())
    texts = [json.loads(line)["text"] for line in done.stdout.splitlines()]
    assert texts == [f"{outputs[DOG]}\n\n{outputs[DOCTOR]}\n", outputs[DOG], ""]


@pytest.mark.parametrize(
    ("options", "line", "message"),
    [
        ([], DOG * 5, "line 3 has "),
        ([], f"{DOG} {DOG * 5}", "line 3 has a sentence of "),
        ([], f"{DOG * 2000}", "--truncate or --split-long"),
        ([], "\udcff", "line 3: not UTF-8 (byte 1)"),
    ],
)
def test_answers_before_a_refused_line_are_written(
    run: Run, tiny_bundle: Path, outputs: dict[str, str], options: list[str], line: str, message: str
) -> None:
    text = f"{DOG}\n{DOCTOR}\n{line}\n{DOG}\n".encode("utf-8", "surrogateescape")
    done = run("translate", tiny_bundle, *options, text=text)
    assert done.stdout.decode() == f"{outputs[DOG]}\n{outputs[DOCTOR]}\n"
    error = done.stderr.decode()
    assert done.returncode in (EXIT_CODES[InputError], EXIT_CODES[DataError])
    assert error.count("\n") == 1 and error.startswith("error: line 3") and message in error


@pytest.mark.parametrize("line", ["{", '{"text": "a"}', "3", "[" * 100_000])
def test_answers_before_a_wrong_json_line_are_written(
    run: Run, tiny_bundle: Path, outputs: dict[str, str], line: str
) -> None:
    done = run("translate", tiny_bundle, "--jsonl", text=f'"{DOG}"\n{line}\n'.encode())
    assert json.loads(done.stdout)["text"] == outputs[DOG]
    assert done.returncode == EXIT_CODES[DataError] and done.stderr.startswith(b"error: line 2: ")


def test_errors_of_a_document_say_so(run: Run, tiny_bundle: Path) -> None:
    done = run("translate", tiny_bundle, "--document", text=f"{DOG}\n\n{DOG * 5}\n".encode())
    assert done.stderr.startswith(b"error: the document has a sentence of ")
    done = run("translate", tiny_bundle, "--document", text=f"{DOG}\n\n ".encode() + b"\xff\n")
    assert done.stderr.startswith(b"error: line 3: not UTF-8 (byte 2)")


def test_what_is_cut_is_said(run: Run, tiny_bundle: Path) -> None:
    generator = Generator.load(tiny_bundle)
    limit, tokens = generator.manifest.max_source_tokens, len(generator.tokenizer.encode_source(DOG * 5))
    text = f"{DOG}\n{DOG * 5}\n{DOG} {DOG * 5}\n"
    done = run("translate", tiny_bundle, "--truncate", text=text.encode())
    assert done.stdout.count(b"\n") == 3
    assert done.stderr.decode().splitlines() == [
        f"line 2: cut from {tokens} to {limit} tokens",
        f"line 3: cut from {tokens} to {limit} tokens",
    ]


def test_a_long_sentence_is_translated_in_parts(run: Run, tiny_bundle: Path) -> None:
    done = run("translate", tiny_bundle, "--split-long", "--json", text=(DOG * 20 + "\n").encode())
    result = json.loads(done.stdout)
    assert (result["truncated"], result["dropped_tokens"], done.stderr) == (False, 0, b"")
    limit = Generator.load(tiny_bundle).manifest.max_source_tokens
    assert len(result["sentences"]) > 1 and max(one["input_tokens"] for one in result["sentences"]) <= limit


def test_a_bundle_that_cuts_can_be_told_to_refuse(run: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "cutting")
    manifest = bundle / MANIFEST_FILE
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"truncation": "longest_first"}))
    line = (DOG * 5 + "\n").encode()
    assert run("translate", bundle, text=line).stderr.startswith(b"line 1: cut from ")
    refused = run("translate", bundle, "--no-truncate", text=line)
    assert refused.returncode == EXIT_CODES[InputError] and refused.stdout == b""


@pytest.mark.parametrize(
    "flags", [["--document", "--jsonl"], ["--truncate", "--split-long"], ["--no-truncate", "--split-long"]]
)
def test_flags_that_exclude_each_other(run: Run, tiny_bundle: Path, flags: list[str]) -> None:
    done = run("translate", tiny_bundle, *flags, text=b"")
    assert done.returncode == 2 and f"{flags[0]} and {flags[1]} exclude".encode() in done.stderr


@pytest.mark.slow
def test_a_large_file_takes_no_more_memory_than_a_small_one(
    tiny_bundle: Path, outputs: dict[str, str], tmp_path: Path
) -> None:
    def peak_mb(blocks: int) -> float:
        source, target = tmp_path / f"{blocks}.de", tmp_path / f"{blocks}.en"
        block = f"{' ' * 1000}\n" * 999 + f"{DOG}\n"
        with source.open("w", encoding="utf-8") as file:
            for _ in range(blocks):
                file.write(block)
        with source.open("rb") as given, target.open("wb") as written:
            command = [sys.executable, "-m", "compressor", "translate", str(tiny_bundle)]
            process = subprocess.Popen(command, stdin=given, stdout=written, stderr=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        lines = target.read_text(encoding="utf-8").split("\n")[:-1]
        assert len(lines) == 1000 * blocks and lines[999::1000] == [outputs[DOG]] * blocks
        return usage.ru_maxrss / 1024

    assert peak_mb(100) - peak_mb(1) < 50  # MB, of files of 100 and 1
