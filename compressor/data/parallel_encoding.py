"""Encodes a corpus on all processors, in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from compressor.data.encoding import EncodedTexts, encode
from compressor.data.encoding_worker import EncodeRequest
from compressor.data.text_rows import BLOCK, TextRows
from compressor.data.worker_processes import WorkerProcesses
from compressor.data_config import DataConfig
from compressor.text.tokenizer import Tokenizer

FEW = 20_000
"""Examples that are encoded here: starting processes takes as long."""


def encode_rows(
    parts: Sequence[TextRows],
    tokenizer: Tokenizer,
    tokenizer_folder: Path,
    data: DataConfig,
    first_ids: tuple[int, ...] = (),
    *,
    processes: int,
) -> Iterator[EncodedTexts]:
    """Yields the encoded texts of some thousand rows at a time, in order.

    Args:
        parts: the texts.
        tokenizer: the student's.
        tokenizer_folder: where it is saved, for the processes.
        data, first_ids: see ``encode``.
        processes: how many encode; with 1, or few rows, this one alone does.

    Raises:
        DataError: a process ended.
    """
    blocks = [(part, start) for part in parts for start in range(0, len(part), BLOCK)]
    if processes == 1 or sum(map(len, parts)) <= FEW:
        for part, start in blocks:
            yield encode(part[start : start + BLOCK], tokenizer, data, first_ids)
        return
    places = ((part, part.place(start, min(start + BLOCK, len(part)))) for part, start in blocks)
    requests = (EncodeRequest(str(part.path), *place, data, first_ids) for part, place in places)
    with WorkerProcesses("compressor.data.encoding_worker", [tokenizer_folder.resolve()], processes) as workers:
        yield from workers.answers(requests)
