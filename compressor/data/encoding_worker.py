"""The process that encodes text beside others: ``python -m compressor.data.encoding_worker TOKENIZER_FOLDER``.

It reads pickled `Request` on standard input and writes a pickled `EncodedTexts` for each on standard output.
"""

from __future__ import annotations

import pickle
import signal
import sys
from array import array
from pathlib import Path
from typing import NamedTuple

from compressor.data.encoding import encode
from compressor.data.text_rows import read_place
from compressor.data_config import DataConfig
from compressor.text.tokenizer import load_tokenizer


class Request(NamedTuple):
    """A place in a file of texts (see ``TextRows``), and how to encode what is there (see ``encode``)."""

    path: str
    offset: int
    lengths: array[int]
    data: DataConfig
    first_ids: tuple[int, ...]


def main() -> None:
    """Answers requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which closes the pipe
    tokenizer = load_tokenizer(Path(sys.argv[1]))
    while True:
        try:
            request: Request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        with open(request.path, "rb") as file:
            examples = read_place(file.fileno(), request.offset, request.lengths)
        encoded = encode(examples, tokenizer, request.data, request.first_ids)
        pickle.dump(encoded, sys.stdout.buffer, protocol=pickle.HIGHEST_PROTOCOL)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
