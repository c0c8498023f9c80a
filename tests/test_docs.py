"""The reference of the recipe is the schema's."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"


def test_the_recipe_reference_is_current() -> None:
    made = runpy.run_path(str(DOCS / "make_recipe.py"))["page"]()
    assert (DOCS / "recipe.md").read_text(encoding="utf-8") == made, "run: python docs/make_recipe.py"
