"""Writes recipe.md, the reference of every recipe field, from the schema: ``python docs/make_recipe.py``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from compressor.config import Recipe

PAGE = Path(__file__).with_name("recipe.md")
HEAD = """# The recipe

A recipe is one YAML file, from which `compress distill` and `compress train` make a model. The
[training guide](training.md#a-first-recipe) has a complete one of 20 lines and says how to choose;
[configs](../configs) has longer ones. This page lists every field.

- Every mistake in a recipe is reported at once, with its path. `compress distill RECIPE --dry-run` prints the whole
  recipe, defaults included.
- `--set section.field=value` replaces a field on the command line; the value is YAML. `--set
  'data.train=[{source: a.de, target: a.en}]'` replaces a list, `--set method.schedule.r=10` one field of a section.
- `base: other.yaml`, beside the sections, takes over the fields of another recipe, whose path starts from the folder of
  this one. Fields of this one replace them, a list as a whole.
- `required` fields have no default. `null` in YAML means: not given.
- Relative paths in `data` start from `data.root`; `data.root`, `teacher.path`, `teacher.labels` and
  `tokenizer.path` start from the folder in which the command runs.

This page is made from the schema by `python docs/make_recipe.py`.
"""


def page() -> str:
    """The page as Markdown: a table for each section, in the order in which they are first mentioned."""
    sections = _all_sections()
    links = {model: f"[`{paths[0]}`](#{_anchor(_heading(model, paths))})" for model, paths in sections.items()}
    parts = [HEAD]
    for model, paths in sections.items():
        summary = " ".join((model.__doc__ or "").replace("``", "`").split())
        title = f"## {_heading(model, paths)}\n\n{summary}" if paths[0] else "## Top level"
        lines = [_line(name, field, links) for name, field in model.model_fields.items()]
        parts.append("\n".join([title, "", "| field | default | meaning |", "| --- | --- | --- |", *lines]) + "\n")
    return "\n".join(parts)


def _all_sections() -> dict[type[BaseModel], list[str]]:
    """Every section to the paths at which a recipe has it."""
    waiting: list[tuple[str, type[BaseModel]]] = [("", Recipe)]
    sections: dict[type[BaseModel], list[str]] = {}
    while waiting:
        path, model = waiting.pop(0)
        sections.setdefault(model, []).append(path)
        waiting += [
            (f"{path}.{name}".lstrip("."), section)
            for name, field in model.model_fields.items()
            for section in _sections(field.annotation)
        ]
    return sections


def _sections(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections(part)]


def _heading(model: type[BaseModel], paths: list[str]) -> str:
    heading = ", ".join(f"`{path}`" for path in paths)
    if "architecture" in model.model_fields:  # one section an architecture
        heading += f", architecture `{model.model_fields['architecture'].default}`"
    return heading


def _anchor(heading: str) -> str:
    """The name that GitHub gives a heading in links."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _line(name: str, field: FieldInfo, links: dict[type[BaseModel], str]) -> str:
    if field.is_required():
        default = "required"
    elif field.default is None:
        default = "null"
    elif field.default is PydanticUndefined or isinstance(field.default, BaseModel):
        default = "see there"
    else:
        default = f"`{_yaml(field.default)}`"
    nested = [links[section] for section in _sections(field.annotation)]
    lists = "A list of these: " if str(field.annotation).startswith("list") else "Fields: "
    fields = f" {lists}{', '.join(nested)}." if nested else ""
    return f"| `{name}` | {default} | {field.description or ''}{fields}{_choices(field.annotation)} |"


def _yaml(value: Any) -> str:
    """A default as a recipe has it."""
    return value if isinstance(value, str) and value else json.dumps(value).replace('"', "'")


def _choices(annotation: Any) -> str:
    values = [value for value in get_args(annotation) if isinstance(value, str)]
    return f" One of {', '.join(f'`{value}`' for value in values)}." if values else ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
