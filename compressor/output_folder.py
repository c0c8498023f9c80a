"""Writes the folders of the project (runs, bundles, checkpoints) completely or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from compressor.bundle import MANIFEST_FILE
from compressor.errors import OutputExistsError
from compressor.files import full_disk_errors, storage_errors
from compressor.locks import hold
from compressor.run_folder import LABELS_FILE, LABELS_FOLDER, METRICS_FILE, MODEL_FILE, PROGRESS_FILE, RUN_FILE

OUTPUT_FILES = (
    MANIFEST_FILE,
    MODEL_FILE,
    RUN_FILE,
    METRICS_FILE,
    PROGRESS_FILE,
    LABELS_FILE,
    f"{LABELS_FOLDER}/{LABELS_FILE}",
)
"""Files that mark a folder as the output of a command of the project."""

REPLACED = "content"
"""Name of a folder that is being replaced, inside a temporary one; only a kill leaves it there."""


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
        raise OutputExistsError(
            f"{folder}: is neither a run, a bundle nor a folder of labels and is not replaced; choose another folder"
        )


@contextlib.contextmanager
def only_writer(folder: Path, what: str) -> Iterator[None]:
    """Keeps other processes from writing a folder; the lock is beside the folder, which may be replaced.

    Args:
        folder: The folder, which need not exist.
        what: What is written there, for the message.

    Raises:
        OutputExistsError: another process writes it.
        StorageError: the parent folder cannot be written.
    """

    def refuse(pid: int | None) -> None:
        raise OutputExistsError(
            f"{folder}: process {pid or 'of unknown id'} is writing {what}: wait until it ends or stop it, "
            "or choose another folder"
        )

    folder = folder.resolve()
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with hold(folder.parent / f".{folder.name}.lock", refuse):
        yield


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
        with full_disk_errors(path):  # a file that the block cannot read is not this folder's fault
            yield temporary
        with storage_errors(path):
            _sync(temporary)
            os.chmod(temporary, 0o755)
            _replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Makes the files below a folder durable."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())


def _replace(temporary: Path, path: Path) -> None:
    """Moves ``temporary`` to ``path``; what was there is deleted after it."""
    if not path.exists():
        os.replace(temporary, path)
        return
    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
    os.replace(path, old / REPLACED)
    os.replace(temporary, path)
    shutil.rmtree(old, ignore_errors=True)
