"""ONNX Runtime sessions, and what is wrong when there can be none."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from compressor.errors import BundleError, DependencyError, InputError
from compressor.runtime.mapped import forget_pages

MIN_VERSION = (1, 28)
"""Opset 23's Attention is sound from here on: before, a fully masked row gave NaN."""

_PACKAGES = ("onnxruntime", "onnxruntime-gpu")

Device = Literal["cpu", "cuda"]
_PROVIDERS: dict[Device, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


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


def open_session(path: Path, *, intra_threads: int = 1, spinning: bool = True, device: Device = "cpu") -> Any:
    """Opens a graph; its weights are mapped from their file.

    Args:
        path: An ``.onnx`` file whose bundle has been checked.
        intra_threads: Threads inside one operator; 0: one for each physical core.
        spinning: Whether idle threads wait busily: faster alone, a waste on a shared machine.
        device: Where it runs.

    Raises:
        BundleError: ONNX Runtime cannot load it.
        DependencyError: there is no CUDA.
    """
    onnxruntime = check_onnxruntime()
    provider = check_device(device)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; they come as exceptions too
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # it keeps a plan for every shape that it meets, and texts have many
    options.intra_op_num_threads = intra_threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # the bindings raise a dozen classes with no common base but this
        raise BundleError(f"{path}: ONNX Runtime cannot load it ({' '.join(str(error).split())[:300]})") from None
    if provider not in session.get_providers():  # it goes on with the processor, and says so in its log alone
        raise DependencyError(
            "device cuda: ONNX Runtime found no GPU, or not the CUDA libraries that it was built with"
        )
    forget_pages(path.parent)
    return session


def check_device(device: Device) -> str:
    """The execution provider of a device.

    Raises:
        InputError: the device is unknown.
        DependencyError: this ONNX Runtime cannot use it.
    """
    if device not in _PROVIDERS:
        raise InputError(f"device is {device!r}: give {' or '.join(_PROVIDERS)}")
    if _PROVIDERS[device] not in check_onnxruntime().get_available_providers():
        raise DependencyError(
            f"device {device}: this ONNX Runtime has no {_PROVIDERS[device]}; it takes an NVIDIA GPU and the package "
            "onnxruntime-gpu in place of onnxruntime (pip install 'compressor[serve]')"
        )
    return _PROVIDERS[device]


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
