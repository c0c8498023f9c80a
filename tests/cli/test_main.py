"""The command line as such: help, version, what is imported, and how failures look."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from compressor import __version__, cli, errors
from compressor.cli import errors as failures
from compressor.cli.errors import EXIT_CODES

COMMANDS = [
    "distill",
    "train",
    "label",
    "export",
    "bench",
    "translate",
    "summarize",
    "evaluate",
    "serve",
    "inspect",
    "runs",
    "demo",
]
HEAVY = ("torch", "transformers", "onnxruntime", "onnx", "datasets", "fastapi", "sacrebleu", "matplotlib")


def run(*arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    program = ["-c", code] if code else ["-m", "compressor"]
    return subprocess.run(
        [sys.executable, *program, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def test_version_prints_name_and_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"compress {__version__}\n")


def test_every_command_is_listed() -> None:
    assert [module.__name__.rpartition(".")[2] for module in cli.COMMANDS] == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(command, "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"Example: compress {command}" in shown


@pytest.mark.parametrize("arguments", [["--help"], ["translate", "--help"], ["inspect", "nowhere"]])
def test_start_imports_no_heavy_package(arguments: list[str]) -> None:
    code = f"""
import sys
from compressor.cli import main
try:
    main({arguments!r})
except SystemExit:
    print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    assert run(code=code).stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nosuch"], "nosuch"),
        (["translate", "--nosuch", "x"], "--nosuch"),
        (["export", "run"], "--out"),
        (["translate", "x", "--num-beams", "0"], "--num-beams"),
    ],
)
def test_a_usage_error_is_one_line(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and expected in err


@pytest.mark.parametrize("kind", list(EXIT_CODES))
def test_every_error_of_the_tree_has_its_exit_code(
    kind: type[errors.CompressError], capsys: pytest.CaptureFixture[str]
) -> None:
    assert failures.exit_code_of(kind("what, where")) == EXIT_CODES[kind] != 0
    assert capsys.readouterr().err == "error: what, where\n"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (OSError(errno.ENOSPC, "No space left on device", "out/x"), 8, "error: out/x: No space left on device\n"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 9, "error: torch is not installed: "),
        (BrokenPipeError(), 141, ""),
        (ZeroDivisionError("division\nby zero"), 1, "error: unexpected ZeroDivisionError: division by zero (--debug"),
    ],
)
def test_other_exceptions_map_to_exit_code_and_message(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failures.exit_code_of(error) == code
    err = capsys.readouterr().err
    assert err.startswith(line) and err.count("\n") <= 1


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    quiet, loud = run("inspect", str(tmp_path)), run("inspect", str(tmp_path), "--debug")
    assert quiet.returncode == EXIT_CODES[errors.ModelError] and "Traceback" not in quiet.stderr
    assert loud.returncode != 0 and "Traceback" in loud.stderr and "ModelError" in loud.stderr
