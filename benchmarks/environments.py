"""Environments of their own for engines whose libraries exclude this project's, made when they are first needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from compressor.errors import DependencyError

FOLDER = Path(os.environ.get("COMPRESS_PEERS", "~/.cache/compress-peers")).expanduser()
"""Where the environments lie; some 4 GB with all of them."""

_DONE = ".complete"


class Environment(NamedTuple):
    """Packages to install, and those to take out again."""

    packages: tuple[str, ...]
    removed: tuple[str, ...] = ()


_ENGINE = ("numpy", "pydantic", "sentencepiece", "tokenizers")  # what the worker itself needs
_OPTIMUM = ("torch==2.13.0", "transformers==4.57.6", "accelerate")
ENVIRONMENTS = {
    "optimum": Environment((*_OPTIMUM, "optimum-onnx[onnxruntime]==0.1.0", *_ENGINE)),
    # Its torchvision is built for another torch, and breaks the import of transformers.
    "openvino": Environment((*_OPTIMUM, "optimum-intel[openvino]==2.2.0", *_ENGINE), ("torchvision",)),
    "marian": Environment(("pymarian==1.12.42", *_ENGINE)),
}


def python_of(engine: str, folder: Path = FOLDER) -> str:
    """The interpreter that runs an engine. An environment that is needed and is not there is made: minutes, once.

    Raises:
        DependencyError: it cannot be installed; says what pip said last.
    """
    if engine not in ENVIRONMENTS:
        return sys.executable
    home = folder / engine
    python = home / "bin" / "python"
    if not (home / _DONE).is_file():
        packages, removed = ENVIRONMENTS[engine]
        pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        _run(engine, [sys.executable, "-m", "venv", "--clear", str(home)])
        _run(engine, [*pip, "install", *packages])
        if removed:
            _run(engine, [*pip, "uninstall", "--yes", *removed])
        (home / _DONE).touch()
    return str(python)


def tool_of(engine: str, tool: str, folder: Path = FOLDER) -> str:
    """A program of an engine's environment."""
    return str(Path(python_of(engine, folder)).with_name(tool))


def _run(engine: str, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DependencyError(f"the environment of {engine} cannot be made: {said}")
