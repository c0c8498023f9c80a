"""ONNX Runtime sessions, and what is wrong when there can be none."""

from __future__ import annotations

import functools
import logging
import re
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from compressor.bundle import base_precision
from compressor.errors import BundleError, DependencyError, InputError
from compressor.provenance import cpu
from compressor.runtime.page_cache import forget_pages

MIN_VERSION = (1, 28)
"""Opset 23's Attention is sound from here on: before, a fully masked row gave NaN."""

_PACKAGES = ("onnxruntime", "onnxruntime-gpu")

Device = Literal["cpu", "cuda"]
_log = logging.getLogger(__name__)

_PROBE = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a020801620f0a0179120a0a08080112040a02"
    "080142040a001011"
)
"""The graph y = Identity(x), of opset 17: what shows whether a device is there."""

_MISSING = re.compile(r"(?:No Op registered for |implementation for )([\w.:]+)|([\w.:]+)\(-?\d+\) is not a registered")
_BLOCKS, _STATIC = ("int4", "mixed"), ("int8", "mixed")  # precisions by the forms of their products
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
        needed = _version(MIN_VERSION)
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
        DependencyError: there is no CUDA, or ONNX Runtime lacks an operator of the graph.
    """
    onnxruntime = check_onnxruntime()
    provider = check_device(device)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; they come as exceptions too
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # it keeps a plan for every shape that it meets, and texts have many
    options.intra_op_num_threads = intra_threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    session = _session(onnxruntime, str(path), options, provider)
    forget_pages(path.parent)
    return session


def _session(onnxruntime: Any, graph: str | bytes, options: Any, provider: str) -> Any:
    """Of a path, or of a graph's bytes."""
    # By default a GPU rounds what it multiplies to 10 bits: its fp32 would not be that of the processor.
    settings = {"use_tf32": "0"} if provider.startswith("CUDA") else {}
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=[(provider, settings)])
    except Exception as error:  # the bindings raise a dozen classes with no common base but this
        said, name = " ".join(str(error).split()), graph if isinstance(graph, str) else "probe"
        if missing := _MISSING.search(said):
            raise DependencyError(
                f"{name}: ONNX Runtime {onnxruntime.__version__} lacks the operator {missing[1] or missing[2]}; it "
                f"takes {_version(MIN_VERSION)} or later with all operators, or the version that bundle.json says the "
                f"bundle was exported with: pip install -U 'onnxruntime>={_version(MIN_VERSION)}'"
            ) from None
        raise BundleError(f"{name}: ONNX Runtime cannot load it ({said[:300]})") from None
    if provider not in session.get_providers():  # it goes on with the processor, and says so in its log alone
        raise DependencyError(
            "device cuda: ONNX Runtime found no GPU, or not the CUDA libraries that it was built with"
        )
    return session


def probe_device(device: Device) -> None:
    """Finds out whether a device is there, before any work is done for it. Raises as ``check_device``."""
    provider = check_device(device)
    if device == "cuda":
        onnxruntime = check_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        _session(onnxruntime, _PROBE, options, provider)


@functools.cache
def warn_if_slow(precision: str, device: Device) -> None:
    """Says in the log, once, if a precision runs on a device, but not well."""
    form = base_precision(precision)
    if device == "cuda" and form in _STATIC:
        _log.warning("%s: ONNX Runtime multiplies 8-bit integers on the processor; fp16 is for GPUs", precision)
    elif device == "cpu" and form == "fp16":
        _log.warning("fp16 is for GPUs: on a processor values are converted to fp32 and back; fp32 and int8 are faster")
    elif device == "cpu" and form in _BLOCKS and _lacks_avx2():
        _log.warning("%s: without AVX2 weights are unpacked at every call; int8 and fp32 are faster", precision)


def _lacks_avx2() -> bool:
    """Whether this is an x86 processor without the instructions that ``MatMulNBits`` is written in."""
    features = cpu()["features"]
    return "sse4_2" in features and "avx2" not in features


def check_device(device: Device) -> str:
    """The execution provider of a device.

    Raises:
        InputError: the device is unknown.
        DependencyError: this ONNX Runtime cannot use it.
    """
    if device not in _PROVIDERS:
        raise InputError(f"{{device}} is {device!r}: give {' or '.join(_PROVIDERS)}", option="device", actual=device)
    if _PROVIDERS[device] not in check_onnxruntime().get_available_providers():
        raise DependencyError(
            f"device {device}: this ONNX Runtime has no {_PROVIDERS[device]}; it takes an NVIDIA GPU and the package "
            "onnxruntime-gpu in place of onnxruntime (pip install 'compressor[serve]')"
        )
    return _PROVIDERS[device]


def _version(parts: tuple[int, ...]) -> str:
    return ".".join(map(str, parts))


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
