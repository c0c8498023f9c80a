"""Errors carry data and are rendered for their reader."""

from __future__ import annotations

import pickle
import tomllib
from pathlib import Path

import pytest

from compressor.cli.errors import EXIT_CODES
from compressor.cli.options import flag
from compressor.errors import CompressError, ConfigError, InputError, TooLongError, install_command


@pytest.mark.parametrize(
    ("error", "python", "command_line"),
    [
        (CompressError("a {path} in braces"), "a {path} in braces", "a {path} in braces"),
        (CompressError("give {dev_source}", options=["dev_source"]), "give dev_source", "give --dev-source"),
        (CompressError("take {device}", options={"device": "cpu"}), "take device='cpu'", "take --device cpu"),
        (CompressError("or {force}", options={"force": True}), "or force=True", "or --force"),
        (
            CompressError("{precisions}", options={"precisions": ("fp32", "int8")}),
            "precisions=('fp32', 'int8')",
            "--precision fp32,int8",
        ),
        (
            ConfigError("2 wrong", ["{a_b}: x", "y"], options=["a_b"]),
            "2 wrong\n  a_b: x\n  y",
            "2 wrong\n  --a-b: x\n  y",
        ),
        (
            InputError("{num_beams} is 9: give 1 to 4", option="num_beams"),
            "num_beams is 9: give 1 to 4",
            "--num-beams is 9: give 1 to 4",
        ),
        (InputError("{text} has no tokens", index=1), "text 2 has no tokens", "text 2 has no tokens"),
        (
            TooLongError([(0, 12), (3, 11)], limit=9),
            "text 1 has 12 tokens, text 4 has 11 tokens, the limit is 9: shorten them, or have them cut "
            "(truncation='longest_first')",
            "text 1 has 12 tokens, text 4 has 11 tokens, the limit is 9: shorten them, or have them cut (--truncate)",
        ),
    ],
)
def test_options_are_written_for_python_or_for_the_command_line(
    error: CompressError, python: str, command_line: str
) -> None:
    assert str(error) == python
    assert error.render(flag) == command_line
    assert str(pickle.loads(pickle.dumps(error))) == python


@pytest.mark.parametrize("extra", ["train", "serve-cpu", "serve", "bench"])
def test_the_command_to_install_an_extra_names_one_that_exists(extra: str) -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert extra in project["optional-dependencies"]
    assert install_command(extra) == f"pip install '.[{extra}]' in the checkout, or 'FILE.whl[{extra}]' with its wheel"


def test_a_reader_may_name_texts() -> None:
    error = TooLongError([(1, 12)], limit=9)
    assert error.render(text=lambda index: f"line {index + 1}").startswith("line 2 has 12 tokens, the limit is 9")
    assert (error.index, error.actual, error.limit, error.texts) == (1, 12, 9, ((1, 12),))


def test_every_error_class_has_an_exit_code_of_its_own_or_of_a_base() -> None:
    direct = [kind for kind in CompressError.__subclasses__() if kind.__module__ == CompressError.__module__]
    assert set(direct) | {CompressError} == set(EXIT_CODES)
