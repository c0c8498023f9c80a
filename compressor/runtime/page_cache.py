"""Pages of mapped weights that have been read once and are not needed any more."""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

_MAPS = Path("/proc/self/maps")


def forget_pages(folder: Path) -> None:
    """Hands back the pages of files in ``folder`` that are mapped into this process (Linux; elsewhere nothing is done).

    ONNX Runtime packs most weights into memory of its own, and then keeps the file that it read them from mapped: a
    second copy (37 MB of 112 for 6+6 layers of d 512 in int8). Pages that are read again come back from the file, so
    that nothing is lost as long as nobody writes to weights, which are constants.
    """
    if not _MAPS.exists() or not hasattr(mmap, "MADV_DONTNEED"):
        return
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    inside = f" {folder.resolve()}/"
    for line in _MAPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        if inside in line:
            start, end = (int(address, 16) for address in line.split(maxsplit=1)[0].split("-"))
            madvise(start, end - start, mmap.MADV_DONTNEED)
