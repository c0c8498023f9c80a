"""Reads the YAML of a recipe, and of the recipes that it is based on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from compressor.errors import ConfigError

BASE = "base"
"""The field, beside the sections, that names another recipe, from the folder of this one on."""


def read_fields(path: Path, based_on_it: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Returns the fields of a recipe, which need not be right: those of its base, and its own in their place.

    Args:
        path: The YAML file.
        based_on_it: Resolved paths of recipes whose base this one is.

    Raises:
        ConfigError: a file is missing, cannot be read, is not a YAML mapping, or is its own base.
    """
    values = _read_mapping(path)
    base = values.pop(BASE, None)
    if base is None:
        return values
    chain = (*based_on_it, path.resolve())
    if not isinstance(base, str):
        raise ConfigError(f"{path}: {BASE}: give the path of one recipe")
    following = path.parent / base
    if following.resolve() in chain:
        raise ConfigError(f"{path}: {BASE}: {base} is based on this recipe itself")
    if not following.is_file():
        raise ConfigError(f"{path}: {BASE}: {following}: no such recipe")
    return _merge(read_fields(following, chain), values)


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a recipe is a mapping of fields")
    return values


def _merge(base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Returns both; sections field by field, a list or a value as a whole."""
    merged = dict(base)
    for name, value in values.items():
        before = base.get(name)
        merged[name] = _merge(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged


def leaves(values: Any, place: str = "") -> dict[str, Any]:
    """Returns the leaves of nested mappings by dotted name; lists are leaves."""
    if not isinstance(values, dict):
        return {place: values}
    within = (leaves(value, f"{place}.{key}".lstrip(".")) for key, value in values.items())
    return {name: leaf for part in within for name, leaf in part.items()}
