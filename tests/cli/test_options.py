"""Options of a command that are made from a pydantic model."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import typer
from pydantic import BaseModel, Field
from typer.testing import CliRunner

from compressor.cli import options
from compressor.errors import ConfigError


class Model(BaseModel):
    """Every kind of field that an options model of the project has."""

    source: Path = Field(description="Sources.")
    precisions: tuple[str, ...] | None = Field(None, description="Precisions.")
    batch_sizes: tuple[int, ...] = Field((1, 8), description="Batch sizes.")
    repeats: int = Field(3, ge=1, description="Repeats.")
    device: Literal["cpu", "cuda"] = "cpu"
    quality: bool = Field(True, description="Whether to score.")
    hidden: int = 5


def run(*arguments: str) -> tuple[int, str, Model | None]:
    received: list[Model] = []

    @options.from_model(Model, omit=["hidden"])
    def command(config: Model, force: options.Force = False) -> None:
        """Does it."""
        received.append(config)

    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    return result.exit_code, result.output, received[0] if received else None


def test_defaults_are_those_of_the_model() -> None:
    assert run("--source", "a")[2] == Model(source=Path("a"))


def test_every_field_can_be_set() -> None:
    given = "--source a --precision fp32,int8 --batch-size 2,4 --repeats 7 --device cuda --no-quality --force"
    assert run(*given.split())[2] == Model(
        source=Path("a"), precisions=("fp32", "int8"), batch_sizes=(2, 4), repeats=7, device="cuda", quality=False
    )


@pytest.mark.parametrize("wrong", [[], ["--repeats", "0"], ["--device", "tpu"], ["--hidden", "3"]])
def test_wrong_values_are_usage_errors(wrong: list[str]) -> None:
    arguments = ["--source", "a", *wrong] if wrong else []
    assert run(*arguments)[0] == 2


def test_lists_are_checked() -> None:
    with pytest.raises(ConfigError, match="'x' is not a positive number"):
        run("--source", "a", "--batch-size", "1,x")


def test_help_has_descriptions_and_defaults() -> None:
    shown = " ".join(run("--help")[1].split())
    assert all(text in shown for text in ("Sources.", "Batch sizes.", "1,8", "--no-quality", "LIST"))
    assert "--hidden" not in shown
