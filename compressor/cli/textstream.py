r"""Implements ``compress translate`` and ``compress summarize``: one output line for each input line.

Only ``\n`` ends a line (a Unicode line separator is text), so that line numbers agree with ``wc`` and with aligned
files. If the last input line has no newline, the last output line has none.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

import typer

from compressor.cli import options
from compressor.cli.errors import BROKEN_PIPE
from compressor.errors import DataError, InputError, TooLongError

if TYPE_CHECKING:
    from compressor.runtime.generator import Generator
    from compressor.runtime.results import Result

_CHUNK_BYTES = 1 << 16
_COMMAND_OF = {"translation": "translate", "summarization": "summarize"}


class ByteStream(Protocol):
    """Input of ``chunks``: ``sys.stdin.buffer``, or any buffered binary file."""

    def read1(self, size: int, /) -> bytes:
        """Returns the bytes of one read, at most ``size``; none at the end."""


def chunks(stream: ByteStream) -> Iterator[tuple[list[str], bool]]:
    """Yields the lines of each read, without newlines, and whether the last of them had one.

    A chunk is the result of one read, so that interactive input is answered line by line.

    Raises:
        DataError: a line is not UTF-8; its number is named.
    """
    number, rest = 0, b""
    while block := stream.read1(_CHUNK_BYTES):
        *lines, rest = (rest + block).split(b"\n")
        if lines:
            yield [_decode(line, number + index) for index, line in enumerate(lines, 1)], True
            number += len(lines)
    if rest:
        yield [_decode(rest, number + 1)], False


def command_of(task: str, summary: str) -> Callable[..., None]:
    """Returns the command of a task; its help begins with ``summary``."""

    def command(
        bundle: options.Bundle,
        precision: options.Precision = None,
        threads: options.Threads = None,
        device: options.Device = "cpu",
        num_beams: options.NumBeams = 1,
        max_new_tokens: options.MaxNewTokens = None,
        min_new_tokens: options.MinNewTokens = None,
        no_repeat_ngram_size: options.NoRepeatNgramSize = None,
        length_penalty: options.LengthPenalty = None,
        batch_tokens: options.BatchTokens = 1024,
        truncate: options.Truncate = False,
        expect_digest: options.Digest = None,
        json: options.JsonLines = False,
    ) -> None:
        intra = None if threads is None else 1
        load = {"precision": precision, "intra_threads": intra, "inter_threads": threads}
        load |= {"expect_digest": expect_digest, "device": device}
        search = {
            "num_beams": num_beams,
            "max_new_tokens": max_new_tokens,
            "min_new_tokens": min_new_tokens,
            "no_repeat_ngram_size": no_repeat_ngram_size,
            "length_penalty": length_penalty,
            "batch_tokens": batch_tokens,
            "truncation": "longest_first" if truncate else None,
        }
        _run(bundle, task, load, search, as_json=json)

    command.__doc__ = f"""{summary}

    As many lines come out as go in, and a blank line stays blank. A source over the model's limit is an error, unless
    --truncate says to cut it.
    """
    return command


def _run(bundle: Path, task: str, load: dict[str, Any], search: dict[str, Any], *, as_json: bool) -> None:
    """Generates for every line of standard input and prints the outputs in order, as they come.

    Raises:
        InputError: the bundle is for another task.
        DataError: a line is not UTF-8.
        TooLongError: a line is longer than the model's limit.
    """
    from compressor.cli.output import progress_bar
    from compressor.runtime.generator import Generator

    generator = Generator.load(bundle, **load, num_beams=search["num_beams"])
    if generator.task != task:
        raise InputError(f"{bundle}: a bundle for {generator.task}; use `compress {_COMMAND_OF[generator.task]}`")
    number, size = 0, _file_size(sys.stdin.buffer)
    with progress_bar(task, counted="lines" if size is None else "bytes") as progress:
        bar = progress.add_task("", total=size)
        for lines, terminated in chunks(cast("ByteStream", sys.stdin.buffer)):
            _write(_generate(generator, lines, number, search), terminated, as_json)
            number += len(lines)
            progress.update(bar, completed=number if size is None else sys.stdin.buffer.tell())


def _file_size(stream: BinaryIO) -> int | None:
    """Returns the size of a file in bytes; None for a pipe or a terminal."""
    try:
        status = os.fstat(stream.fileno())
    except OSError:  # a stream without a file
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _generate(generator: Generator, lines: list[str], before: int, search: dict[str, Any]) -> list[Result]:
    """Returns the results of a chunk; its input errors name texts by their line in the whole input.

    Args:
        generator: The bundle.
        lines: Lines of the chunk.
        before: Lines of the input before the chunk.
        search: Options of ``Generator.generate``.
    """
    try:
        return generator.generate(lines, **search)
    except TooLongError as error:
        texts = [(before + index, length) for index, length in error.texts]
        raise TooLongError(texts, cast("int", error.limit)) from None
    except InputError as error:
        if error.index is not None:
            error.index += before
        raise


def _write(results: list[Result], terminated: bool, as_json: bool) -> None:
    if as_json:
        text = "".join(json.dumps(asdict(result), ensure_ascii=False) + "\n" for result in results)
    else:
        # An output may contain line breaks; each output is written as one line.
        text = "\n".join(" ".join(result.text.splitlines()) for result in results) + "\n" * terminated
    try:
        sys.stdout.buffer.write(text.encode("utf-8"))
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # the reader closed the pipe, as `head` does
        raise typer.Exit(BROKEN_PIPE) from None


def _decode(line: bytes, number: int) -> str:
    try:
        return line.removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"line {number}: not UTF-8 (byte {error.start + 1}); convert the input first") from None
