"""What the processes of a server on this machine use, read from ``/proc``; Linux alone has it."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LISTEN = "0A"


class ProcessUsage(NamedTuple):
    """What a process and all its descendants use.

    ``main_seconds`` and ``other_seconds`` are processor seconds since their start, of the main threads (the event
    loops) and of all other threads, ended ones included.
    """

    main_seconds: float
    other_seconds: float
    rss_mb: float
    threads: int
    fds: int


def listening_process(port: int) -> int | None:
    """Returns the process that listens on a TCP port of this machine, None where none is seen.

    Where several share the socket it is the one that started the rest.
    """
    inodes = {
        f"socket:[{fields[9]}]"
        for table in ("tcp", "tcp6")
        for fields in _rows(PROC / "net" / table)
        if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port
    }
    owners = [pid for pid in _processes() if inodes & _links(pid)]
    parents = {pid: _stat(pid) for pid in owners}
    return next((pid for pid in owners if (stat := parents[pid]) and int(stat[1]) not in owners), None)


def usage(root: int) -> ProcessUsage | None:
    """Returns what a process and its descendants use; None once it has ended."""
    children: dict[int, list[int]] = defaultdict(list)
    stats = {pid: stat for pid in _processes() if (stat := _stat(pid))}
    for pid, stat in stats.items():
        children[int(stat[1])].append(pid)
    if root not in stats:
        return None
    tree = [root]
    for pid in tree:  # grows while it is read
        tree += children[pid]
    mains = [_cpu_seconds(stat) for pid in tree if (stat := _stat(pid, f"task/{pid}/stat"))]
    whole = sum(_cpu_seconds(stats[pid]) for pid in tree)
    return ProcessUsage(
        main_seconds=sum(mains),
        other_seconds=max(0.0, whole - sum(mains)),
        rss_mb=sum(int(stats[pid][21]) for pid in tree) * _PAGE / 1e6,
        threads=sum(int(stats[pid][17]) for pid in tree),
        fds=sum(len(_descriptors(pid)) for pid in tree),
    )


def _cpu_seconds(stat: list[str]) -> float:
    return (int(stat[11]) + int(stat[12])) / _TICKS


def _processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir(PROC) if name.isdigit()]
    except OSError:
        return []


def _stat(pid: int, name: str = "stat") -> list[str] | None:
    """Returns the fields of a process's ``stat`` from the state on (proc(5), field 3); None once it has ended."""
    try:
        return (PROC / str(pid) / name).read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _rows(table: Path) -> list[list[str]]:
    try:
        return [line.split() for line in table.read_text().splitlines()[1:]]
    except OSError:
        return []


def _descriptors(pid: int) -> list[str]:
    try:
        return os.listdir(PROC / str(pid) / "fd")
    except OSError:
        return []


def _links(pid: int) -> set[str]:
    """Returns what the file descriptors of a process point to; those of other users' are not seen."""
    links = set()
    for name in _descriptors(pid):
        try:
            links.add(os.readlink(PROC / str(pid) / "fd" / name))
        except OSError:
            continue
    return links
