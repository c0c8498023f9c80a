"""The reference of the recipe is the schema's; the guide to extensions names files that exist."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
EXAMPLES = ("decay.py", "ensemble.py", "test_ensemble.py", "echo/", "NAME.py")
"""What the guide to extensions makes."""


def test_the_recipe_reference_is_current() -> None:
    made = runpy.run_path(str(DOCS / "make_recipe.py"))["page"]()
    assert (DOCS / "recipe.md").read_text(encoding="utf-8") == made, "run: python docs/make_recipe.py"


def test_the_guide_to_extensions_names_files_that_exist() -> None:
    guide = (DOCS / "extending.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"`((?:compressor|benchmarks|tests|docs)/[\w/]+\.py)`", guide))
    missing = [path for path in paths if not (ROOT / path).is_file()]
    assert [path for path in missing if not any(name in path for name in EXAMPLES)] == []
    assert len(paths) > 20
