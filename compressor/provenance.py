"""Provenance of results, runs and bundles: code, versions, hardware and command.

Results are published, so a record never holds a host name, a user name or an absolute path.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("compressor", "torch", "onnxruntime", "onnxruntime-gpu", "onnx", "transformers", "tokenizers",
            "sentencepiece", "ctranslate2", "accelerate", "numpy", "sacrebleu", "rouge-score")  # fmt: skip

# SIMD instruction sets by which matmul and int8 kernels are selected (x86-64, then Arm).
SIMD = ("sse4_1", "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni",
        "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16",
        "asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2")  # fmt: skip


def provenance(*, seed: int | None = None, command: list[str] | None = None) -> dict[str, Any]:
    """Returns everything that a result depends on, as JSON values.

    Args:
        seed: Seed of the run; None if it has none.
        command: Command line; by default that of this process.

    Returns:
        ``date`` (UTC), ``commit`` and ``dirty`` (null outside a repository), ``command``, ``seed``, ``python``,
        ``platform``, ``versions`` of the installed packages in ``PACKAGES``, and ``cpu`` with ``model``, ``features``
        (SIMD only), ``cores`` (usable by this process) and ``memory_gb``.
    """
    commit, dirty = _git()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "commit": commit,
        "dirty": dirty,
        "command": _command(sys.argv if command is None else command),
        "seed": seed,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": _versions(),
        "cpu": cpu(),
    }


def cpu() -> dict[str, Any]:
    """Returns ``model``, SIMD ``features``, ``cores`` usable by this process, and ``memory_gb`` of the machine."""
    model, features = _cpuinfo()
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        cores = os.cpu_count() or 1
    return {"model": model, "features": features, "cores": cores, "memory_gb": _memory_gb()}


def _command(arguments: list[str]) -> str:
    """A command line without absolute paths."""
    program, *rest = arguments or [""]
    name = Path(program).name.replace("__main__.py", "compress")  # python -m compressor
    return " ".join([name, *(sanitize(argument) for argument in rest)])


def sanitize(argument: str) -> str:
    """Shortens every absolute path inside a command-line argument.

    A path under the working directory becomes relative to it; any other is reduced to its last part. Paths that begin
    with ``~``, or with more than one ``..``, count as absolute.
    """
    if _is_outside(argument):  # the whole argument is a path, which may hold spaces
        return _shorten(argument)
    return _PATH.sub(lambda match: _shorten(match[0]), argument)


_PATH = re.compile(r"(?<![\w.\-~/])(?!(?<=:)//)(?:~\w*/|/|\.\./\.\./)[^\s,;:'\"\]}]+")


def _is_outside(path: str) -> bool:
    """Returns whether a path leads out of the current folder."""
    return path.startswith(("/", "~", "../../"))


def _shorten(text: str) -> str:
    """Returns a path below the current folder as relative, any other as its name alone."""
    path = Path(os.path.normpath(os.path.expanduser(text)))
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        return path.relative_to(Path.cwd()).as_posix()
    return path.name


def _git() -> tuple[str | None, bool | None]:
    """Commit of this package's repository, and whether tracked files differ from it; None outside a repository."""
    root = Path(__file__).resolve().parent.parent
    # An installed copy may lie inside another repository, whose commit says nothing about this package.
    if not (root / ".git").exists():
        return None, None
    commit = _run_git(root, "rev-parse", "HEAD")
    if not commit:
        return None, None
    status = _run_git(root, "status", "--porcelain", "--untracked-files=no")
    return commit, None if status is None else bool(status)


def _run_git(root: Path, *arguments: str) -> str | None:
    """Returns the output of a git command; None if it fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    """Versions of those of ``PACKAGES`` that are installed."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _cpuinfo(path: Path = Path("/proc/cpuinfo")) -> tuple[str | None, list[str]]:
    """Model name, and SIMD features in the order of ``SIMD``; empty if the file cannot be read."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or None, []
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    present = set((fields.get("flags") or fields.get("features") or "").split())
    return fields.get("model name") or platform.processor() or None, [flag for flag in SIMD if flag in present]


def _memory_gb() -> float | None:
    """Returns the machine's memory in GB (2^30 bytes); None where unknown."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None
