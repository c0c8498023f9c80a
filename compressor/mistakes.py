"""Lists every mistake of a configuration at once: wrong fields, unknown ones with a suggestion, and conflicts.

Pydantic compares fields only where each is right by itself. So wrong fields are replaced by what is right, the rest is
validated again, and conflicts are listed, except those that involve a replaced field.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from compressor.model_config import ARCHITECTURES, Section

Place = tuple[str | int, ...]
"""Where a field is: names, and positions in lists."""

ROUNDS = 20
"""Most replacements after one another; each level of nesting may need one."""
_SOURCE = {"source": "-", "target": "-"}
_REQUIRED: dict[str, Any] = {
    "data": {"train": [_SOURCE], "dev": [_SOURCE]},
    "train": [_SOURCE],
    "dev": [_SOURCE],
    "training": {"updates": 1},
    "path": "-",
}
"""What replaces a field that has no default."""


def list_mistakes(model: type[Section], values: Mapping[str, Any]) -> list[str]:
    """Returns a line for each mistake in ``values``, the fields of a ``model``; none if they are right."""
    fields = copy.deepcopy(dict(values))
    wrong: dict[Place, str | None] = {}
    for _ in range(ROUNDS):
        try:
            section = model.model_validate(fields, context={"conflicts": True})
        except ValidationError as error:
            items = sorted(error.errors(include_url=False), key=lambda item: item["type"] != "extra_forbidden")
            for item in items:
                _note(model, fields, item, wrong)
                _replace(fields, _place(item))
        else:
            conflicts = list(_conflicts(section, (), set(wrong)))
            return [line for line in wrong.values() if line] + conflicts
    return [line for line in wrong.values() if line]


def _note(model: type[Section], fields: dict[str, Any], item: Any, wrong: dict[Place, str | None]) -> None:
    """Adds a mistake to ``wrong``, unless it is the consequence of one that is there."""
    place = _place(item)
    if any(_overlap(place, known) for known in wrong):
        return
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        meant = _suggestion(model, place)
        message = "unknown field" + (f"; did you mean {'.'.join(map(str, meant))}?" if meant else "")
        if meant and not _has(fields, meant):
            wrong[meant] = None  # what is missing because of the wrong name is no other mistake
    wrong[place] = ".".join(map(str, place)) + f": {message}"


def _place(item: Any) -> Place:
    place = list(item["loc"])
    if place[:1] == ["student"] and place[1:2] and place[1] in ARCHITECTURES:
        del place[1]  # pydantic names the class that a union chose
    return tuple(place)


def _has(fields: Any, place: Place) -> bool:
    """Whether there is a field at a place."""
    for part in place:
        try:
            fields = fields[part]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _replace(fields: dict[str, Any], place: Place) -> None:
    """Replaces the field at a place by its default, or by something right where there is none."""
    node, parents = fields, list[tuple[Any, str | int]]()
    for part in place:
        parents.append((node, part))
        try:
            node = node[part]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            break
    while parents:
        container, part = parents.pop()
        if isinstance(container, list) and parents and parents[-1][1] in ("train", "dev", "mono"):
            container[int(part)] = dict(_SOURCE)
            return
        if isinstance(container, dict):
            container.pop(part, None)
            if part in _REQUIRED:
                container[part] = copy.deepcopy(_REQUIRED[str(part)])
            return


def _conflicts(section: Section, place: Place, wrong: set[Place]) -> Iterator[str]:
    """Yields the conflicts of a section and of those in it, except where a wrong field is involved."""
    for conflict in section.conflicts():
        involved = [(*place, *_parts(name)) for name in conflict.fields]
        if not any(_overlap(one, known) for one in involved for known in wrong):
            yield ": ".join(filter(None, (".".join(map(str, place)), conflict.message)))
    for name in type(section).model_fields:
        value = getattr(section, name)
        for index, part in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(part, Section):
                inner = (*place, name, index) if isinstance(value, list) else (*place, name)
                yield from _conflicts(part, inner, wrong)


def _parts(name: str) -> Place:
    return tuple(int(part) if part.isdecimal() else part for part in name.split("."))


def _overlap(one: Place, other: Place) -> bool:
    """Whether one place is the other, or inside it."""
    shared = min(len(one), len(other))
    return one[:shared] == other[:shared]


def _suggestion(model: type[Section], place: Place) -> Place | None:
    """Returns the field that a wrong name was meant to be: a similar one beside it, or the same in another section."""
    *section, name = place
    known = _all_fields(model)
    inside = tuple(part for part in section if isinstance(part, str))
    beside = [path[-1] for path in known if path[:-1] == inside]
    if near := difflib.get_close_matches(str(name), beside, n=1):
        return (*section, near[0])
    return next((path for path in known if path[-1] == name), None)


def _all_fields(model: type[BaseModel], place: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Returns the places of all fields, sections included, without positions in lists."""
    fields = []
    for name, field in model.model_fields.items():
        fields.append((*place, name))
        for section in _sections(field.annotation):
            fields += _all_fields(section, (*place, name))
    return list(dict.fromkeys(fields))


def _sections(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections(part)]
