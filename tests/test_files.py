"""Nothing half-written, nothing lost."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from compressor.errors import OutputExistsError, StorageError
from compressor.files import new_folder, write_atomic


def fail(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, "old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match="full"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with pytest.raises(RuntimeError), new_folder(target) as folder:
        (folder / "part").write_text("1")
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    with new_folder(target) as folder:
        (folder / "part").write_text("1")
    assert (target / "part").read_text() == "1"


def test_an_existing_folder_is_replaced_only_when_told_to(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "mine").write_text("mine")
    with pytest.raises(OutputExistsError, match="--force"), new_folder(target):
        raise AssertionError("the block must not run")
    with pytest.raises(RuntimeError), new_folder(target, force=True):
        raise RuntimeError
    assert (target / "mine").read_text() == "mine"
    with new_folder(target, force=True) as folder:
        (folder / "part").write_text("1")
    assert os.listdir(tmp_path) == ["bundle"]
    assert os.listdir(target) == ["part"]
