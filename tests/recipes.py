"""The recipes in ``configs``."""

from __future__ import annotations

from pathlib import Path

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
RECIPES = sorted(path for path in CONFIGS.rglob("*.yaml") if path.name != "base.yaml")
"""Those that make a model; a ``base.yaml`` has what several of them share."""


def name_of(path: Path) -> str:
    """The recipe's path in ``configs``, without its suffix: the name of its tests."""
    return str(path.relative_to(CONFIGS).with_suffix(""))
