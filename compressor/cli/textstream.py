r"""Implements ``compress translate`` and ``compress summarize``: texts from standard input, outputs in their order.

A text is a line, the ``source`` of a JSON line, or the whole input. Only ``\n`` ends a line (a Unicode line separator
is text), so that line numbers agree with ``wc`` and with aligned files. If the last input line has no newline, the last
output line has none.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol, cast

import typer

from compressor.cli import options
from compressor.cli.endings import Endings
from compressor.cli.errors import BROKEN_PIPE
from compressor.errors import ConfigError, DataError, InputError, TooLongError

if TYPE_CHECKING:
    from compressor.runtime.generator import Generator
    from compressor.runtime.results import Result

_CHUNK_BYTES = 1 << 16
Shape = Literal["lines", "jsonl", "document"]
"""What is one text of the input."""
_COMMAND_OF = {"translation": "translate", "summarization": "summarize"}


class ByteStream(Protocol):
    """Input of ``chunks``: ``sys.stdin.buffer``, or any buffered binary file."""

    def read1(self, size: int, /) -> bytes:
        """Returns the bytes of one read, at most ``size``; none at the end."""


def chunks(stream: ByteStream) -> Iterator[tuple[list[str], bool]]:
    """Yields the lines of each read, without newlines, and whether the last of them had one.

    A chunk is the result of one read, so that interactive input is answered line by line.

    Raises:
        DataError: a line is not UTF-8; its number is named. The lines before it have been yielded.
    """
    number, rest = 0, b""
    while block := stream.read1(_CHUNK_BYTES):
        *lines, rest = (rest + block).split(b"\n")
        if lines:
            yield from _decoded(lines, number, True)
            number += len(lines)
    if rest:
        yield from _decoded([rest], number, False)


def _decoded(lines: list[bytes], before: int, terminated: bool) -> Iterator[tuple[list[str], bool]]:
    """Yields the lines as text. Raises DataError as ``chunks``."""
    texts: list[str] = []
    for line in lines:
        try:
            texts.append(line.removesuffix(b"\r").decode("utf-8"))
        except UnicodeDecodeError as error:
            if texts:
                yield texts, True
            message = f"line {before + len(texts) + 1}: not UTF-8 (byte {error.start + 1}); convert the input first"
            raise DataError(message) from None
    yield texts, terminated


def records(stream: ByteStream) -> Iterator[tuple[list[str], bool]]:
    """Yields the texts of the JSON lines of each read: their ``source``, or the line's string.

    Raises:
        DataError: a line is not UTF-8, not JSON or has no text. The texts of the lines before it have been yielded.
    """
    number = 0
    for lines, terminated in chunks(stream):
        texts: list[str] = []
        for line in lines:
            number += 1
            try:
                texts.append(_source(line, number))
            except DataError:
                if texts:
                    yield texts, True
                raise
        yield texts, terminated


def _source(line: str, number: int) -> str:
    """Returns the text of a JSON line. Raises DataError."""
    try:
        record = json.loads(line.removeprefix("\ufeff") if number == 1 else line)
    except (ValueError, RecursionError):
        raise DataError(f'line {number}: not valid JSON; a line is an object with "source", or a string') from None
    text = record.get("source") if isinstance(record, dict) else record
    if not isinstance(text, str):
        raise DataError(f'line {number}: no text; a line is an object with "source", or a string')
    return text


def whole(stream: ByteStream) -> Iterator[tuple[list[str], bool]]:
    """Yields the whole input as one text, and whether it ends with a newline. Raises DataError if it is not UTF-8."""
    content = b"".join(iter(lambda: stream.read1(_CHUNK_BYTES), b""))
    try:
        yield [content.decode("utf-8")], content.endswith(b"\n")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        byte = error.start - content.rfind(b"\n", 0, error.start)
        raise DataError(f"line {number}: not UTF-8 (byte {byte}); convert the input first") from None


_READERS = {"lines": chunks, "jsonl": records, "document": whole}


def command_of(task: str, summary: str) -> Callable[..., None]:
    """Returns the command of a task; its help begins with ``summary``."""

    def command(
        bundle: options.Bundle,
        document: options.Document = False,
        jsonl: options.JsonLinesInput = False,
        split: options.SplitTexts = None,
        split_long: options.SplitLong = False,
        truncate: options.Truncate = None,
        precision: options.Precision = None,
        threads: options.Threads = None,
        device: options.Device = "cpu",
        num_beams: options.NumBeams = 1,
        max_new_tokens: options.MaxNewTokens = None,
        min_new_tokens: options.MinNewTokens = None,
        no_repeat_ngram_size: options.NoRepeatNgramSize = None,
        length_penalty: options.LengthPenalty = None,
        batch_tokens: options.BatchTokens = 1024,
        expect_digest: options.Digest = None,
        json: options.JsonLines = False,
    ) -> None:
        _exclusive({"--document": document, "--jsonl": jsonl})
        _exclusive({"--truncate" if truncate else "--no-truncate": truncate is not None, "--split-long": split_long})
        overlong = {True: "longest_first", False: "error", None: "split" if split_long else None}
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
            "split": split,
            "truncation": overlong[truncate],
        }
        shape: Shape = "document" if document else "jsonl" if jsonl else "lines"
        _run(bundle, task, load, search, shape, as_json=json or jsonl)

    command.__doc__ = f"""{summary}

    A text is a line (as many lines come out as go in, and a blank line stays blank), with --document the whole input,
    with --jsonl the "source" of a JSON line. A sentence over the model's limit is an error after the texts before it,
    unless --truncate or --split-long says what to do, or the bundle's model was trained on sources that were cut
    (--no-truncate refuses there, too).
    """
    return command


def _exclusive(flags: dict[str, bool]) -> None:
    if all(flags.values()):
        raise ConfigError(f"{' and '.join(flags)} exclude each other: give one")


def _run(bundle: Path, task: str, load: dict[str, Any], search: dict[str, Any], shape: Shape, *, as_json: bool) -> None:
    """Generates for every text of standard input and prints the outputs in order, as they come.

    Raises:
        InputError: the bundle is for another task.
        DataError: a line is not UTF-8, or not a JSON line where they are read.
        TooLongError: a sentence is longer than the model's limit; the outputs of the texts before it are printed.
    """
    from compressor.cli.output import progress_bar
    from compressor.runtime.generator import Generator

    generator = Generator.load(bundle, **load, num_beams=search["num_beams"])
    if generator.task != task:
        raise InputError(f"{bundle}: a bundle for {generator.task}; use `compress {_COMMAND_OF[generator.task]}`")
    number, size = 0, _file_size(sys.stdin.buffer)
    bar_of_task = progress_bar(task, counted="lines" if size is None else "bytes")
    with Endings() as endings, bar_of_task as progress:
        bar = progress.add_task("", total=size)
        for texts, terminated in _READERS[shape](cast("ByteStream", sys.stdin.buffer)):
            results, error = _generate(generator, texts, search)
            _write(results, terminated or error is not None, as_json, shape)
            for place, sentence in _sentences(results, number, shape):
                endings.add(place, sentence)
                _report_cut(place, sentence)
            if error is not None:
                raise _located(error, number, shape)
            number += len(texts)
            progress.update(bar, completed=number if size is None else sys.stdin.buffer.tell())


def _file_size(stream: BinaryIO) -> int | None:
    """Returns the size of a file in bytes; None for a pipe or a terminal."""
    try:
        status = os.fstat(stream.fileno())
    except OSError:  # a stream without a file
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _generate(generator: Generator, texts: list[str], search: dict[str, Any]) -> tuple[list[Result], InputError | None]:
    """Returns the results of texts; if some are refused, those of the texts before the first of them, and the error."""
    try:
        return generator.generate(texts, **search), None
    except InputError as error:
        if error.index is None:
            raise
        results, earlier = _generate(generator, texts[: error.index], search) if error.index else ([], None)
        return results, earlier or error


def _located(error: InputError, before: int, shape: Shape) -> InputError:
    """Returns an error of a chunk that names its texts as lines of the whole input, of which ``before`` came before."""
    if shape == "document":
        what = error.describe(0, cast("int", error.actual)) if isinstance(error, TooLongError) else ""
        message = f"the document {what}, {error.message}" if what else error.message.replace("{text}", "the document")
        return InputError(message, options=error.options)
    if isinstance(error, TooLongError):
        sentences = None if error.sentences is None else [before + index for index in error.sentences]
        texts = [(before + index, length) for index, length in error.texts]
        return TooLongError(texts, cast("int", error.limit), sentences)
    error.index = before + (error.index or 0)
    return error


def _sentences(results: list[Result], before: int, shape: Shape) -> Iterator[tuple[str, Result]]:
    """Yields the sentences of results, each with its place; ``before`` is the number of texts before the results."""
    for index, result in enumerate(results):
        place = "document" if shape == "document" else f"line {before + index + 1}"
        yield from ((place, sentence) for sentence in result.sentences or (result,))


def _report_cut(place: str, sentence: Result) -> None:
    """Says on standard error if the end of a sentence was cut off."""
    if sentence.truncated:
        tokens = sentence.input_tokens + sentence.dropped_tokens
        print(f"{place}: cut from {tokens} to {sentence.input_tokens} tokens", file=sys.stderr, flush=True)


def _write(results: list[Result], terminated: bool, as_json: bool, shape: Shape) -> None:
    if as_json:
        text = "".join(json.dumps(asdict(result), ensure_ascii=False) + "\n" for result in results)
    elif shape == "document":
        text = "".join(result.text for result in results)
        text += "\n" * (terminated and not text.endswith("\n"))
    else:
        # An output may contain line breaks; each output is written as one line.
        lines = [re.sub(r"[\r\n]+", " ", result.text) for result in results]
        text = "\n".join(lines) + "\n" * (terminated and bool(lines))
    try:
        sys.stdout.buffer.write(text.encode("utf-8"))
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # the reader closed the pipe, as `head` does
        raise typer.Exit(BROKEN_PIPE) from None
