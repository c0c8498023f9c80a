"""A lock is held by one process, is free when that is killed, and leaves no file."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from compressor.locks import hold

HOLDER = """
import sys, time
from pathlib import Path
from compressor.locks import hold
with hold(Path(sys.argv[1]), lambda pid: None):
    print("held", flush=True)
    time.sleep(60)
"""


class Busy(Exception):
    """Another process holds the lock."""


def refuse(pid: int | None) -> None:
    raise Busy(pid)


def test_a_second_process_is_told_the_first_ones_id_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(Busy) as refused, hold(path, refuse):
        pass
    assert refused.value.args == (holder.pid,)
    holder.kill()
    holder.communicate()
    with hold(path, refuse):
        assert path.exists()
    assert list(tmp_path.iterdir()) == []


def test_those_who_wait_have_it_one_after_another(tmp_path: Path) -> None:
    inside, most, told = list[int](), list[int](), list[int | None]()

    def work(number: int) -> None:
        with hold(tmp_path / "lock", told.append):
            inside.append(number)
            most.append(len(inside))
            threading.Event().wait(0.01)
            inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8 and len(told) <= 8 and list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_has_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("compressor.locks.os.open", denied)
    with hold(tmp_path / "lock", refuse):
        pass
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError), hold(tmp_path / "absent" / "lock", refuse):
        pass
