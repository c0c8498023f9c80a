"""Options that several commands share."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import annotated_types
import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from compressor.bundle import PRECISIONS, SHORTLIST
from compressor.config import validate_options
from compressor.errors import ConfigError

Bundle = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="Folder written by `compress export`.", show_default=False)
]
Source = Annotated[
    Path,
    typer.Option(
        "--source", metavar="FILE", help="Text, a source a line, or JSON lines, CSV or TSV.", show_default=False
    ),
]
Reference = Annotated[
    Path | None,
    typer.Option("--reference", metavar="FILE", help="References, aligned with the sources: text or a table."),
]
RecipeFile = Annotated[
    Path,
    typer.Argument(
        metavar="RECIPE", help="YAML file; docs/recipe.md lists its fields, configs/ has examples.", show_default=False
    ),
]
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
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Folder of the run; it must not exist. Needed except for --dry-run.",
        show_default=False,
    ),
]
LabelEngine = Annotated[
    Literal["auto", "onnx", "torch"] | None,
    typer.Option(
        "--label-engine", help="What writes the teacher's outputs, for methods that read them; default: the recipe's."
    ),
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
        "--precision",
        help=f"A precision that the bundle has: {', '.join(PRECISIONS)}, or one with {SHORTLIST}; "
        "default: int8 if the bundle has it, else mixed or fp32.",
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
    float | None,
    typer.Option(
        "--length-penalty", help="Beam scores are divided by the length to this power; default: the bundle's."
    ),
]
BatchTokens = Annotated[
    int, typer.Option("--batch-tokens", min=1, help="Most source tokens in one batch, padding included.")
]
Document = Annotated[bool, typer.Option("--document", help="Read the whole input as one text.")]
JsonLinesInput = Annotated[
    bool, typer.Option("--jsonl", help='Read JSON lines, texts under "source", and print JSON lines.')
]
SplitTexts = Annotated[
    Literal["sentences", "none"] | None,
    typer.Option(
        "--split",
        help="sentences: each is read by itself, and layout is kept; none: a text is read whole. Default: "
        "sentences in translation, none in summarization.",
    ),
]
SplitLong = Annotated[
    bool, typer.Option("--split-long", help="Read a sentence that is too long in parts, cut at clause boundaries.")
]
Truncate = Annotated[
    bool | None,
    typer.Option(
        "--truncate/--no-truncate",
        help="Cut the end of a sentence that is too long, and say so on standard error; or refuse it. Default: refuse, "
        "but cut if the model was trained on sources that were cut.",
        show_default=False,
    ),
]
Digest = Annotated[
    str | None, typer.Option("--expect-digest", metavar="SHA256", help="Refuse a bundle with another manifest digest.")
]


_FLAGS = {
    "batch_sizes": "--batch-size",
    "bundles": "BUNDLE",
    "inter_threads": "--threads",
    "intra_threads": "--threads",
    "overrides": "--set",
    "precisions": "--precision",
    "runs": "--run",
}
"""Flags that are not the option's name with hyphens."""

_SWITCHES = {"truncation": {"longest_first": "--truncate", "split": "--split-long"}}
"""Options with several values in Python that are flags without a value on the command line."""


def flag(name: str, value: object = None) -> str:
    """Returns how an option of the Python API is written on the command line: ``--dev-source``, ``--device cpu``.

    Args:
        name: Name of the option in Python.
        value: Value to write after it; None and True: the flag alone; a list: alternatives.
    """
    if isinstance(value, list):
        return " or ".join(flag(name, one) for one in value)
    if name in _SWITCHES:
        return _SWITCHES[name].get(str(value), "--truncate")
    written = _FLAGS.get(name, f"--{name.replace('_', '-')}")
    if value is None or value is True:
        return written
    return f"{written} {','.join(map(str, value)) if isinstance(value, tuple) else value}"


def names(text: str) -> tuple[str, ...]:
    """Returns the names in a list: ``fp32,int8`` -> ``("fp32", "int8")``. Raises ConfigError if it is empty."""
    items = tuple(part.strip() for part in text.split(",") if part.strip())
    if not items:
        raise ConfigError(f"{text!r}: name at least one, separated by commas")
    return items


def numbers(text: str) -> tuple[int, ...]:
    """Returns the numbers in a list: ``1,8,32`` -> ``(1, 8, 32)``. Raises ConfigError if one is not positive."""
    items = names(text)
    wrong = [part for part in items if not part.isdecimal() or int(part) < 1]
    if wrong:
        raise ConfigError(f"{text!r}: {wrong[0]!r} is not a positive number")
    return tuple(int(part) for part in items)


def from_model(
    model: type[BaseModel],
    *,
    arguments: Mapping[str, Any] | None = None,
    omit: Collection[str] = (),
    given_only: bool = False,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Returns a decorator that gives a command an option for each field of a pydantic model.

    The command has a parameter ``config`` of the model; in its place the decorated command has the options, whose
    names, types, bounds, defaults and help texts are the fields'. Lists are given as one text, separated by commas.
    ::

        @options.from_model(ExportConfig)
        def command(run: Run, out: options.Out, config: ExportConfig, force: options.Force = False) -> None: ...

    Args:
        model: The model.
        arguments: Annotations (``Annotated[type, typer.Argument(...)]``) of fields that are no options, or that need
            another help text.
        omit: Fields that are left at their defaults.
        given_only: Whether the model gets only the options that were given, since it reads the others elsewhere.
    """
    fields = {name: field for name, field in model.model_fields.items() if name not in omit}
    written = [_parameter(name, field, (arguments or {}).get(name), given_only) for name, field in fields.items()]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        own = [
            parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in inspect.signature(command).parameters.values()
        ]
        place = [parameter.name for parameter in own].index("config")
        parameters = [*own[:place], *written, *own[place + 1 :]]

        def run(**values: Any) -> None:
            taken = {name: values.pop(name) for name in fields}
            if given_only:
                taken = {name: value for name, value in taken.items() if value not in (None, [])}
            given = {name: _parsed(fields[name], value) for name, value in taken.items()}
            command(config=validate_options(model, given), **values)

        run.__doc__ = command.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def _parameter(name: str, field: FieldInfo, annotation: Any, given_only: bool) -> inspect.Parameter:
    """Returns the parameter of a command for a field; with ``given_only`` it is None unless it was given."""
    kind, optional = _without_none(field.annotation)
    default = inspect.Parameter.empty if field.is_required() else field.default
    if _is_list(field):
        kind, default = str, ",".join(map(str, default)) if isinstance(default, tuple) and default else None
        optional = default is None
    metavar = "LIST" if _is_list(field) else "FILE" if kind is Path else None
    switch = flag(name) if default is not True else f"{flag(name)}/--no-{flag(name)[2:]}"
    least: Any = next((item.ge for item in field.metadata if isinstance(item, annotated_types.Ge)), None)
    most: Any = next((item.le for item in field.metadata if isinstance(item, annotated_types.Le)), None)
    shown: Any = not field.is_required()
    if given_only:
        shown = str(default) if default is not None and not isinstance(default, bool) else False
        default, optional = None, True
    option = typer.Option(switch, help=field.description, metavar=metavar, min=least, max=most, show_default=shown)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=annotation or Annotated[kind | None if optional else kind, option],
    )


def _parsed(field: FieldInfo, value: Any) -> Any:
    """Returns the value of a field for what the command line gave: lists are split at their commas."""
    if not _is_list(field) or not isinstance(value, str):
        return field.default if _is_list(field) and value is None else value
    (item, *_) = get_args(_without_none(field.annotation)[0])
    return numbers(value) if item is int else names(value)


def _is_list(field: FieldInfo) -> bool:
    return get_origin(_without_none(field.annotation)[0]) is tuple


def _without_none(annotation: Any) -> tuple[Any, bool]:
    """Returns the type ``X`` of ``X | None``, and whether None was allowed."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation, False
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    return kinds[0], True
