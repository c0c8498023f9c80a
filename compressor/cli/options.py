"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from compressor.bundle import PRECISIONS
from compressor.errors import ConfigError

Bundle = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="Folder written by `compress export`.", show_default=False)
]
Source = Annotated[
    Path, typer.Option("--source", metavar="FILE", help="Text, a source a line, or JSON lines.", show_default=False)
]
Reference = Annotated[
    Path | None, typer.Option("--reference", metavar="FILE", help="References, aligned with the sources.")
]
RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="YAML file, see configs/.", show_default=False)]
Set = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Replace a field of the recipe: dotted key, YAML value. Repeatable."
    ),
]
Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Folder to write; it must not exist.", show_default=False)
]
RunOut = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Folder of the run; it must not exist.", show_default=False)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the recipe, model sizes, and time and memory needed.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint in --out.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JsonLines = Annotated[
    bool, typer.Option("--json", help="Print a JSON object a line: text, token counts, finish reason.")
]
JsonFile = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write JSON to a file; - is standard output.")
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision", help=f"One of {', '.join(PRECISIONS)}; default: int8 if the bundle has it, else mixed or fp32."
    ),
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Processor threads; default: all.")]
Device = Annotated[Literal["cpu", "cuda"], typer.Option("--device", help="Where it runs; cuda takes an NVIDIA GPU.")]
NumBeams = Annotated[int, typer.Option("--num-beams", min=1, help="Beams of the search; 1 is greedy.")]
MaxNewTokens = Annotated[
    int | None, typer.Option("--max-new-tokens", min=1, help="Longest output; default: the bundle's.")
]
MinNewTokens = Annotated[
    int | None, typer.Option("--min-new-tokens", min=0, help="No end before that many tokens; default: the bundle's.")
]
NoRepeatNgramSize = Annotated[
    int | None,
    typer.Option(
        "--no-repeat-ngram-size", min=0, help="No n-gram of this size twice; 0 is off; default: the bundle's."
    ),
]
LengthPenalty = Annotated[
    float | None, typer.Option("--length-penalty", help="Beam scores are divided by length to this.")
]
BatchTokens = Annotated[int, typer.Option("--batch-tokens", min=1, help="Padded tokens that run together.")]
Truncate = Annotated[bool, typer.Option("--truncate", help="Cut a source that is too long instead of refusing it.")]
Digest = Annotated[
    str | None, typer.Option("--expect-digest", metavar="SHA256", help="Refuse a bundle with another manifest digest.")
]


_FLAGS = {
    "batch_sizes": "--batch-size",
    "inter_threads": "--threads",
    "intra_threads": "--threads",
    "overrides": "--set",
    "precisions": "--precision",
    "truncation": "--truncate",
}
"""Flags that are not the option's name with hyphens."""

_SWITCHES = ("truncation",)
"""Options with several values in Python that are a flag without a value on the command line."""


def flag(name: str, value: object = None) -> str:
    """Returns how an option of the Python API is written on the command line: ``--dev-source``, ``--device cpu``.

    Args:
        name: Name of the option in Python.
        value: Value to write after it; None and True: the flag alone.
    """
    written = _FLAGS.get(name, f"--{name.replace('_', '-')}")
    if value is None or value is True or name in _SWITCHES:
        return written
    return f"{written} {','.join(map(str, value)) if isinstance(value, tuple) else value}"


def names(text: str) -> tuple[str, ...]:
    """``fp32,int8`` -> ``("fp32", "int8")``. Raises ConfigError if there is none."""
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found:
        raise ConfigError(f"{text!r}: name at least one, separated by commas")
    return found


def numbers(text: str) -> tuple[int, ...]:
    """``1,8,32`` -> ``(1, 8, 32)``. Raises ConfigError if one is not a positive number."""
    found = names(text)
    wrong = [part for part in found if not part.isdecimal() or int(part) < 1]
    if wrong:
        raise ConfigError(f"{text!r}: {wrong[0]!r} is not a positive number")
    return tuple(int(part) for part in found)
