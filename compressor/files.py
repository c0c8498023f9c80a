"""Writes files and folders completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from compressor.errors import OutputExistsError, StorageError


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns a full disk or a missing permission into a StorageError that names ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"{path}: the disk is full; nothing was written, free some space and try again"
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StorageError(f"{path}: cannot be written ({error.strerror}); choose another folder") from None
        raise


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
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
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


OUTPUT_FILES = ("bundle.json", "model.json", "run.json", "metrics.jsonl", "progress.json", "teacher_outputs.jsonl")
"""Files that mark a folder as the output of a command of the project."""


def check_replaceable(folder: Path) -> None:
    """Refuses to replace a folder that no command of the project wrote, so that ``force`` deletes no user files.

    Raises:
        OutputExistsError: ``folder`` has other content, or the current folder lies inside.
    """
    if not folder.exists():
        return
    if Path.cwd().is_relative_to(folder.resolve()):
        raise OutputExistsError(f"{folder}: holds the current folder and is not replaced; choose another folder")
    is_output = any((folder / name).exists() for name in OUTPUT_FILES)
    if not folder.is_dir() or (any(folder.iterdir()) and not is_output):
        raise OutputExistsError(f"{folder}: is neither a run nor a bundle and is not replaced; choose another folder")


@contextlib.contextmanager
def new_folder(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yields a temporary folder, which replaces ``path`` if the block succeeds and is deleted if it fails.

    Raises:
        OutputExistsError: ``path`` exists and ``force`` is not set.
        StorageError: the disk is full or the parent folder is not writable.
    """
    if path.exists() and not force:
        raise OutputExistsError(
            f"{path}: exists already; choose another folder or replace it with {{force}}", options={"force": True}
        )
    check_replaceable(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            yield temporary
            _sync(temporary)
            os.chmod(temporary, 0o755)
            _replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())


def _replace(temporary: Path, path: Path) -> None:
    if not path.exists():
        os.replace(temporary, path)
        return
    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
    os.replace(path, old / "content")
    os.replace(temporary, path)
    shutil.rmtree(old, ignore_errors=True)
