"""Locks between processes: a file that one process holds, with its id inside. A killed process holds no lock."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

UNSUPPORTED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOLCK, errno.ENOTSUP)
"""Errors of folders and file systems where no lock can be had; the work is done without one."""


@contextlib.contextmanager
def hold(path: Path, busy: Callable[[int | None], object]) -> Iterator[None]:
    """Holds the lock ``path`` while the block runs, and removes the file.

    Args:
        path: The file; its folder exists.
        busy: Called with the id of the process that holds the lock (None: not known), once. It raises to give up;
            otherwise this process waits.
    """
    try:
        file = _acquire(path, busy)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        yield
        return
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)  # before it is free: whoever has opened it sees that it is gone, and opens anew
        os.close(file)


def _acquire(path: Path, busy: Callable[[int | None], object]) -> int:
    """Returns the descriptor of the locked file."""
    told = False
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    told = True
                    busy(_holder(file))
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(file, path):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _is_at(file: int, path: Path) -> bool:
    """Whether the open file is still the one at ``path``: whoever held the lock before may have removed it."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _holder(file: int) -> int | None:
    """Returns the process id in the file, if it was written already."""
    text = os.pread(file, 32, 0).decode("ascii", "replace")
    return int(text) if text.isdecimal() else None
