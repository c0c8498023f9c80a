"""Folders are written completely or not at all, and only folders of the project are replaced."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from compressor.errors import OutputExistsError, StorageError
from compressor.output_folder import new_folder


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with pytest.raises(RuntimeError), new_folder(target) as folder:
        (folder / "part").write_text("1")
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    with new_folder(target) as folder:
        (folder / "part").write_text("1")
    assert (target / "part").read_text() == "1"


def test_only_what_happens_to_the_folder_is_said_of_it(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), new_folder(tmp_path / "bundle"):
        raise PermissionError(errno.EACCES, "cannot be read", "tokenizer")
    with pytest.raises(StorageError, match="bundle: the disk is full"), new_folder(tmp_path / "bundle"):
        raise OSError(errno.ENOSPC, "full", "part")
    assert os.listdir(tmp_path) == []


def test_an_existing_folder_is_replaced_only_when_told_to(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "mine").write_text("mine")
    message = "neither a run, a bundle nor a folder of labels"
    with pytest.raises(OutputExistsError, match=message), new_folder(target, force=True):
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
