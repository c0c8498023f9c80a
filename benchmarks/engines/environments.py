"""Virtual environments for engines whose libraries exclude this project's, made when they are first needed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.engines.base import EngineDescriptor
from compressor.errors import DependencyError

FOLDER = Path(os.environ.get("COMPRESS_PEERS", "~/.cache/compress-peers")).expanduser()
"""Where the environments lie; some 4 GB with all of them."""

PROCESS_PACKAGES = ("numpy", "pydantic", "sentencepiece", "tokenizers")
"""What ``benchmarks.engines.process`` itself needs."""

_DONE = ".complete"


def python_of(engine: EngineDescriptor, folder: Path = FOLDER) -> str:
    """The interpreter that runs an engine. Its environment is made first if it is not there: minutes, once.

    Raises:
        DependencyError: it cannot be installed; the message has pip's last line.
    """
    if engine.environment is None:
        return sys.executable
    packages, removed = engine.environment
    return environment(engine.name, [*packages, *PROCESS_PACKAGES], removed, folder)


def environment(name: str, packages: Sequence[str], removed: Sequence[str] = (), folder: Path = FOLDER) -> str:
    """The interpreter of an environment with these packages, without those removed; made first if it is not there.

    Raises:
        DependencyError: it cannot be installed; the message has pip's last line.
    """
    home = folder / name
    python = home / "bin" / "python"
    if not (home / _DONE).is_file():
        pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        commands = [[sys.executable, "-m", "venv", "--clear", str(home)], [*pip, "install", *packages]]
        if removed:
            commands.append([*pip, "uninstall", "--yes", *removed])
        for command in commands:
            if failure := failure_of(command):
                raise DependencyError(f"the environment of {name} cannot be made: {failure}")
        (home / _DONE).touch()
    return str(python)


def tool_of(engine: EngineDescriptor, tool: str, folder: Path = FOLDER) -> str:
    """The path of a program in an engine's environment."""
    return str(Path(python_of(engine, folder)).with_name(tool))


def failure_of(command: list[str]) -> str | None:
    """Runs a command; returns the last line of its standard error if it failed, else None."""
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stderr.strip().splitlines() or ["no message"])[-1] if done.returncode else None
