"""Writes files completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from compressor.errors import StorageError

PARTIAL = ".partial"
"""Suffix of a file that is being written; only a kill leaves it there."""


@contextlib.contextmanager
def full_disk_errors(path: Path) -> Iterator[None]:
    """Turns a full disk into a StorageError that names ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageError(f"{path}: the disk is full; nothing was written, free some space and try again") from None


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns a full disk or a missing permission into a StorageError that names ``path``."""
    try:
        with full_disk_errors(path):
            yield
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise StorageError(f"{path}: cannot be written ({error.strerror}); choose another folder") from None


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replaces ``path`` in one step: temporary file, fsync, rename.

    Raises:
        StorageError: the disk is full or the folder not writable; the old file is untouched.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    path = path.resolve()  # replace the target of a link, not the link
    if path.exists() and not path.is_file():  # a device or a pipe cannot be replaced
        path.write_bytes(data)
        return
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def remove_partial(folder: Path) -> None:
    """Deletes what kills left of files that were being written in ``folder``; nobody else may write there."""
    for path in folder.glob(f".*{PARTIAL}"):
        path.unlink(missing_ok=True)
