"""The process that encodes text beside others: ``python -m compressor.data.encoding_worker TOKENIZER_FOLDER``."""

from __future__ import annotations

import sys
from array import array
from pathlib import Path
from typing import NamedTuple

from compressor.data.encoding import EncodedTexts, encode
from compressor.data.text_rows import read_place
from compressor.data.worker_processes import serve
from compressor.data_config import DataConfig
from compressor.text.tokenizer import load_tokenizer


class EncodeRequest(NamedTuple):
    """A place in a file of texts (see ``TextRows``), and how to encode what is there (see ``encode``)."""

    path: str
    offset: int
    lengths: array[int]
    data: DataConfig
    first_ids: tuple[int, ...]


def main() -> None:
    """Answers each ``EncodeRequest`` with ``EncodedTexts``."""
    tokenizer = load_tokenizer(Path(sys.argv[1]))

    def answer(request: EncodeRequest) -> EncodedTexts:
        with open(request.path, "rb") as file:
            examples = read_place(file.fileno(), request.offset, request.lengths)
        return encode(examples, tokenizer, request.data, request.first_ids)

    serve(answer)


if __name__ == "__main__":
    main()
