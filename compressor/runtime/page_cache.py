"""Releases pages of memory-mapped weight files that are no longer needed."""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

_MAPS = Path("/proc/self/maps")


def release_pages(folder: Path) -> None:
    """Releases the memory of files in ``folder`` that are mapped into this process (Linux; elsewhere does nothing).

    ONNX Runtime packs most weights into its own memory and keeps the file mapped that it read them from: a second copy
    (37 MB of 112 for 6+6 layers of d 512 in int8). A released page is read from the file again when it is needed, so
    nothing is lost as long as the mapping is never written to; weights are constants.
    """
    if not _MAPS.exists() or not hasattr(mmap, "MADV_DONTNEED"):
        return
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    prefix = f" {folder.resolve()}/"
    for line in _MAPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        if prefix in line:
            start, end = (int(address, 16) for address in line.split(maxsplit=1)[0].split("-"))
            madvise(start, end - start, mmap.MADV_DONTNEED)
