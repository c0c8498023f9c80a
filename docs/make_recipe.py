"""Writes recipe.md, the reference of every recipe field, from the schema: ``python docs/make_recipe.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from compressor.config import Recipe

PAGE = Path(__file__).with_name("recipe.md")
HEAD = """# The recipe

A run is one YAML file. Every mistake in it is reported at once, with its path; `--set section.field=value` replaces a
field on the command line, the value in YAML. `compress distill RECIPE --dry-run` shows the whole recipe, defaults
included. This page is made from the schema by `python docs/make_recipe.py`.
"""


def page() -> str:
    """The page as Markdown: a table for each section, in the order in which they are first mentioned."""
    parts, waiting, done = [HEAD], [("", Recipe)], set()
    while waiting:
        path, model = waiting.pop(0)
        if model in done:
            continue
        done.add(model)
        summary = " ".join((model.__doc__ or "").split())
        heading = f"`{path}`" if path else "Top level"
        if "architecture" in model.model_fields:  # one section an architecture
            heading += f", architecture `{model.model_fields['architecture'].default}`"
        title = f"## {heading}\n\n{summary}" if path else f"## {heading}"
        lines = [_line(name, field) for name, field in model.model_fields.items()]
        parts.append("\n".join([title, "", "| field | default | meaning |", "| --- | --- | --- |", *lines]) + "\n")
        waiting += [
            (f"{path}.{name}".lstrip("."), section)
            for name, field in model.model_fields.items()
            for section in _sections(field.annotation)
        ]
    return "\n".join(parts)


def _sections(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections(part)]


def _line(name: str, field: FieldInfo) -> str:
    if field.is_required():
        default = "required"
    elif field.default is None:
        default = "null"
    elif field.default is PydanticUndefined:
        default = "see below"
    else:
        default = f"`{field.default!r}`"
    return f"| `{name}` | {default} | {field.description or ''}{_choices(field.annotation)} |"


def _choices(annotation: Any) -> str:
    values = [value for value in get_args(annotation) if isinstance(value, str)]
    return f" One of {', '.join(f'`{value}`' for value in values)}." if values else ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
