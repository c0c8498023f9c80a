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
    with pytest.raises(OutputExistsError, match="neither a run nor a bundle"), new_folder(target, force=True):
        raise AssertionError("the block must not run")
    (target / "bundle.json").write_text("{}")
    with pytest.raises(OutputExistsError, match="force=True"), new_folder(target):
        raise AssertionError("the block must not run")
    with pytest.raises(RuntimeError), new_folder(target, force=True):
        raise RuntimeError
    assert (target / "mine").read_text() == "mine"
    with new_folder(target, force=True) as folder:
        (folder / "part").write_text("1")
    assert os.listdir(tmp_path) == ["bundle"]
    assert os.listdir(target) == ["part"]


def test_the_current_folder_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "inside").mkdir()
    for folder in (tmp_path, tmp_path / "inside"):
        monkeypatch.chdir(folder)
        with pytest.raises(OutputExistsError, match="holds the current folder"), new_folder(tmp_path, force=True):
            raise AssertionError("the block must not run")


def test_a_link_stays_a_link_and_a_pipe_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_atomic(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_atomic(tmp_path / "pipe", "through")
    assert os.read(reader, 99) == b"through" and not (tmp_path / "pipe").is_file()
    os.close(reader)
