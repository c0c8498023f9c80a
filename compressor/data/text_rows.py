"""Examples in a file, so that a corpus of millions takes some bytes of memory an example."""

from __future__ import annotations

import os
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

from compressor.data.examples import Example

BLOCK = 4096
"""Examples that are read together."""

NO_TARGET = -1


class TextRows(Sequence[Example]):
    """Examples that were written to a file: texts end to end in UTF-8, their places in memory (16 bytes an example).

    Args:
        path: the file, which is made, and closed with this object.
        examples: what is written.
    """

    def __init__(self, path: Path, examples: Iterable[Example] = ()) -> None:
        self.path = path
        self.starts, self.lengths = array("q"), array("i")
        """Where each example begins in the file, and the bytes of its two sides; -1 bytes for no target."""
        self._file = path.open("w+b")
        weakref.finalize(self, self._file.close)
        self._size = 0
        for example in examples:
            self.append(example)

    def append(self, example: Example) -> None:
        """Writes one more example."""
        sides = [None if text is None else text.encode("utf-8", "surrogatepass") for text in example]
        self.starts.append(self._size)
        for side in sides:
            self.lengths.append(NO_TARGET if side is None else len(side))
            self._size += self._file.write(side or b"")

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            start, stop, _ = index.indices(len(self))
            return self._read(start, max(start, stop))
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._read(index, index + 1)[0]

    def __iter__(self) -> Iterator[Example]:
        for start in range(0, len(self), BLOCK):
            yield from self[start : start + BLOCK]

    def place(self, start: int, stop: int) -> tuple[int, array[int]]:
        """Returns where the examples from ``start`` to ``stop`` begin in the file, and the lengths of their sides."""
        self._file.flush()
        return self.starts[start] if start < stop else 0, self.lengths[2 * start : 2 * stop]

    def _read(self, start: int, stop: int) -> list[Example]:
        return read_place(self._file.fileno(), *self.place(start, stop))


def read_place(file: int, offset: int, lengths: Sequence[int]) -> list[Example]:
    """Returns the examples at a place of an open file; see ``TextRows.place``."""
    data, at = os.pread(file, sum(length for length in lengths if length > 0), offset), 0
    texts: list[str | None] = []
    for length in lengths:
        if length == NO_TARGET:
            texts.append(None)
        else:
            texts.append(data[at : at + length].decode("utf-8", "surrogatepass"))
            at += length
    return [Example(source or "", target) for source, target in zip(texts[::2], texts[1::2], strict=True)]
