"""Shows a failure to the user: one line on standard error, options written as flags, and an exit code."""

from __future__ import annotations

import errno
import sys

import typer

from compressor.cli.options import flag
from compressor.errors import (
    BundleError,
    CompressError,
    ConfigError,
    DataError,
    DependencyError,
    DivergedRun,
    ExportError,
    InputError,
    InterruptedRun,
    LostProcess,
    ModelError,
    OutputExistsError,
    StorageError,
    VocabularyError,
    install_command,
)

EXIT_CODES: dict[type[CompressError], int] = {
    CompressError: 1,
    ConfigError: 2,
    InputError: 2,
    DataError: 3,
    VocabularyError: 4,
    ModelError: 4,
    BundleError: 5,
    ExportError: 6,
    OutputExistsError: 7,
    StorageError: 8,
    DependencyError: 9,
    DivergedRun: 10,
    LostProcess: 11,
    InterruptedRun: 130,
}
"""Exit code of an error class and of its subclasses."""

INTERRUPTED = 130
BROKEN_PIPE = 141  # as the shell reports a process that SIGPIPE ended

# typer has carried click under its own name since 0.2x: this is the base of all usage errors under either name.
_UsageError = typer.BadParameter.__mro__[2]

_EXTRA_OF = {
    "accelerate": "train",
    "datasets": "train",
    "fastapi": "serve",
    "fastapi_offline": "serve",
    "matplotlib": "bench",
    "limits": "serve",
    "onnx": "train",
    "onnx_ir": "train",
    "onnxruntime": "serve",
    "onnxscript": "train",
    "prometheus_client": "serve",
    "safetensors": "train",
    "tensorboard": "train",
    "torch": "train",
    "transformers": "train",
    "uvicorn": "serve",
}


def exit_code_of(error: BaseException) -> int:
    """Prints an error in one line on standard error and returns its exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        _say("interrupted")
        return INTERRUPTED
    message, code = _describe(error)
    if message:
        _say(message)
    return code


def _describe(error: BaseException) -> tuple[str, int]:
    """Returns an error's message in one line, and the exit code."""
    if isinstance(error, CompressError):
        return error.render(flag, _line), next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)
    if isinstance(error, _UsageError):
        message = error.format_message()  # type: ignore[attr-defined]
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context is not None and message else ""
        return " ".join(message.split()) + hint, 2
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        extra = _EXTRA_OF.get(package)
        if extra:
            return f"{package} is not installed: {install_command(extra)}", 9
    if isinstance(error, OSError):
        return _describe_os(error)
    if isinstance(error, MemoryError):
        return "out of memory: use smaller batches or a smaller model", 1
    name = type(error).__name__
    return f"unexpected {name}: {' '.join(str(error).split())} (--debug shows where)", 1


def _describe_os(error: OSError) -> tuple[str, int]:
    """Returns message and exit code of an error of the operating system."""
    where = f"{error.filename}: " if error.filename else ""
    what = error.strerror or str(error)
    storage = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
    return f"{where}{what}", EXIT_CODES[StorageError] if error.errno in storage else 1


def _line(index: int) -> str:
    """Returns how a message calls the text at ``index`` (0-based): by its line."""
    return f"line {index + 1}"


def _say(message: str) -> None:
    """Prints an error message on standard error."""
    print(f"error: {message}", file=sys.stderr, flush=True)
