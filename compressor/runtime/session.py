"""ONNX Runtime sessions, and what is wrong when there can be none."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from compressor.errors import BundleError, DependencyError
from compressor.runtime.threads import choose_threads

MIN_VERSION = (1, 28)
"""Opset 23's Attention is sound from here on: before, a fully masked row gave NaN."""

_PACKAGES = ("onnxruntime", "onnxruntime-gpu")


def check_onnxruntime() -> Any:
    """Imports ONNX Runtime.

    Raises:
        DependencyError: it is missing, too old, or installed twice; says what to install or uninstall.
    """
    installed = [name for name in _PACKAGES if _installed(name)]
    if len(installed) > 1:  # both write the same files: which one runs is chance
        raise DependencyError(
            f"{' and '.join(installed)} are both installed and overwrite each other: "
            f"pip uninstall -y {' '.join(installed)}, then pip install {installed[-1]}"
        )
    try:
        import onnxruntime
    except ImportError:
        raise DependencyError("ONNX Runtime is missing: pip install 'compressor[serve-cpu]'") from None
    version = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
    if version < MIN_VERSION:
        needed = ".".join(map(str, MIN_VERSION))
        raise DependencyError(
            f"ONNX Runtime {onnxruntime.__version__} is too old for this graph's Attention operator: "
            f"pip install 'onnxruntime>={needed}'"
        )
    return onnxruntime


def open_session(path: Path, *, intra_threads: int | None = None, spinning: bool = True) -> Any:
    """Opens a graph; its weights are mapped from their file.

    Args:
        path: An ``.onnx`` file whose bundle has been checked.
        intra_threads: Threads inside one operator; None: all processors that this process may use.
        spinning: Whether idle threads wait busily: faster alone, a waste on a shared machine.

    Raises:
        BundleError: ONNX Runtime cannot load it.
    """
    onnxruntime = check_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; they come as exceptions too
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = choose_threads(intra_threads)
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the bindings raise a dozen classes with no common base but this
        raise BundleError(f"{path}: ONNX Runtime cannot load it ({' '.join(str(error).split())[:300]})") from None


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
