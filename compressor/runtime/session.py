"""Opens ONNX Runtime sessions, and explains why one cannot be opened."""

from __future__ import annotations

import functools
import logging
import re
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from compressor.bundle import base_precision
from compressor.errors import BundleError, DependencyError, InputError, install_command
from compressor.provenance import cpu
from compressor.runtime.page_cache import release_pages

MIN_VERSION = (1, 28)
"""First version whose Attention operator (opset 23) returns no NaN for a fully masked row."""

LARGE_SEARCH = 4096
"""Source tokens times beams of a batch whose memory is given back after the search."""

_PACKAGES = ("onnxruntime", "onnxruntime-gpu")

Device = Literal["cpu", "cuda"]
_log = logging.getLogger(__name__)

_PROBE = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a020801620f0a0179120a0a08080112040a02"
    "080142040a001011"
)
"""The graph y = Identity(x), of opset 17; opening it shows whether a device works."""

_MISSING = re.compile(r"(?:No Op registered for |implementation for )([\w.:]+)|([\w.:]+)\(-?\d+\) is not a registered")
_BLOCKS, _STATIC = ("int4", "mixed"), ("int8", "mixed")  # precisions that contain the format
_PROVIDERS: dict[Device, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def check_onnxruntime() -> Any:
    """Imports ONNX Runtime and returns the module.

    Raises:
        DependencyError: it is missing, too old, or installed twice; the message says what to install or uninstall.
    """
    installed = [name for name in _PACKAGES if _installed(name)]
    if len(installed) > 1:  # both packages write the same files
        raise DependencyError(
            f"{' and '.join(installed)} are both installed and overwrite each other: "
            f"pip uninstall -y {' '.join(installed)}, then pip install {installed[-1]}"
        )
    try:
        import onnxruntime
    except ImportError:
        raise DependencyError(f"ONNX Runtime is missing: {install_command('serve-cpu')}") from None
    version = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
    if version < MIN_VERSION:
        needed = _version(MIN_VERSION)
        raise DependencyError(
            f"ONNX Runtime {onnxruntime.__version__} is too old for this graph's Attention operator: "
            f"pip install 'onnxruntime>={needed}'"
        )
    return onnxruntime


def session_options(*, intra_threads: int = 1, spinning: bool = True) -> Any:
    """Returns the ``SessionOptions`` of every session of the project.

    Args:
        intra_threads: Threads inside one operator; 0: one for each physical core.
        spinning: Whether idle threads wait in a busy loop: faster alone, wasteful on a shared machine.
    """
    options = check_onnxruntime().SessionOptions()
    options.log_severity_level = 3  # errors, which are raised as exceptions too
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # it stores a memory plan for every input shape, and texts have many
    options.intra_op_num_threads = intra_threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    return options


def run_options(tokens: int) -> Any:
    """Returns the ``RunOptions`` of a search: after a large one, ONNX Runtime gives its memory back; else None.

    Its arena otherwise keeps the most that any run needed. To give back costs the next run new allocations, which is
    small against a large search.

    Args:
        tokens: Source tokens of the batch, padding included, times beams.
    """
    if tokens < LARGE_SEARCH:
        return None
    options = check_onnxruntime().RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def open_session(graph: Path | bytes, *, intra_threads: int = 1, spinning: bool = True, device: Device = "cpu") -> Any:
    """Opens a graph as an ``InferenceSession``; weights in a file of their own are memory-mapped.

    Args:
        graph: An ``.onnx`` file whose bundle has been checked, or a serialized model.
        intra_threads: See ``session_options``.
        spinning: See ``session_options``.
        device: Where the graph runs.

    Raises:
        BundleError: ONNX Runtime cannot load the graph.
        DependencyError: CUDA is not available, or ONNX Runtime lacks an operator of the graph.
    """
    provider = check_device(device)
    options = session_options(intra_threads=intra_threads, spinning=spinning)
    session = _create_session(graph, options, provider)
    if isinstance(graph, Path):
        release_pages(graph.parent)
    return session


def _create_session(graph: Path | bytes, options: Any, provider: str) -> Any:
    """Creates a session on one execution provider; raises as ``open_session``."""
    onnxruntime = check_onnxruntime()
    # By default a GPU rounds the factors of a matmul to TF32 (10 bits), and its fp32 differs from a processor's.
    settings = {"use_tf32": "0"} if provider.startswith("CUDA") else {}
    model, name = (str(graph), str(graph)) if isinstance(graph, Path) else (graph, "graph in memory")
    try:
        session = onnxruntime.InferenceSession(model, options, providers=[(provider, settings)])
    except Exception as error:  # the bindings raise a dozen classes with no other common base
        message = " ".join(str(error).split())
        if missing := _MISSING.search(message):
            raise DependencyError(
                f"{name}: ONNX Runtime {onnxruntime.__version__} lacks the operator {missing[1] or missing[2]}; it "
                f"takes {_version(MIN_VERSION)} or later with all operators, or the version that bundle.json says the "
                f"bundle was exported with: pip install -U 'onnxruntime>={_version(MIN_VERSION)}'"
            ) from None
        raise BundleError(f"{name}: ONNX Runtime cannot load it ({message[:300]})") from None
    if provider not in session.get_providers():  # it falls back to the processor with no more than a log message
        raise DependencyError(
            "device cuda: ONNX Runtime found no GPU, or not the CUDA libraries that it was built with"
        )
    return session


def probe_device(device: Device) -> None:
    """Checks that a device works, before any work is done for it. Raises as ``check_device``."""
    provider = check_device(device)
    if device == "cuda":
        options = session_options()
        options.log_severity_level = 4
        _create_session(_PROBE, options, provider)


@functools.cache
def warn_if_slow(precision: str, device: Device) -> None:
    """Logs a warning, once, if a precision is supported on a device but slow there."""
    base = base_precision(precision)
    if device == "cuda" and base in _STATIC:
        _log.warning("%s: ONNX Runtime multiplies 8-bit integers on the processor; fp16 is for GPUs", precision)
    elif device == "cpu" and base == "fp16":
        _log.warning("fp16 is for GPUs: on a processor values are converted to fp32 and back; fp32 and int8 are faster")
    elif device == "cpu" and base in _BLOCKS and _lacks_avx2():
        _log.warning("%s: without AVX2 weights are unpacked at every call; int8 and fp32 are faster", precision)


def _lacks_avx2() -> bool:
    """Whether this is an x86 processor without AVX2, for which ``MatMulNBits`` has no fast kernel."""
    features = cpu()["features"]
    return "sse4_2" in features and "avx2" not in features


def check_device(device: Device) -> str:
    """Returns the name of a device's execution provider.

    Raises:
        InputError: the device is unknown.
        DependencyError: this ONNX Runtime cannot use it.
    """
    if device not in _PROVIDERS:
        raise InputError(f"{{device}} is {device!r}: give {' or '.join(_PROVIDERS)}", option="device", actual=device)
    if _PROVIDERS[device] not in check_onnxruntime().get_available_providers():
        raise DependencyError(
            f"device {device}: this ONNX Runtime has no {_PROVIDERS[device]}; it takes an NVIDIA GPU and the package "
            f"onnxruntime-gpu in place of onnxruntime ({install_command('serve')})"
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
