"""The reference of the recipe is the schema's; documents name files, tests, recipes and headings that exist."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import yaml

from compressor.config import parse_recipe

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
EXAMPLES = ("decay.py", "ensemble.py", "test_ensemble.py", "echo/", "NAME.py")
"""What the guide to extensions makes."""
DOCUMENTS = [*sorted(DOCS.glob("*.md")), *sorted(ROOT.glob("*.md"))]


def test_the_recipe_reference_is_current() -> None:
    made = runpy.run_path(str(DOCS / "make_recipe.py"))["page"]()
    assert (DOCS / "recipe.md").read_text(encoding="utf-8") == made, "run: python docs/make_recipe.py"


def test_the_guide_to_extensions_names_files_that_exist() -> None:
    guide = (DOCS / "extending.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"`((?:compressor|benchmarks|tests|docs)/[\w/]+\.py)`", guide))
    missing = [path for path in paths if not (ROOT / path).is_file()]
    assert [path for path in missing if not any(name in path for name in EXAMPLES)] == []
    assert len(paths) > 20


@pytest.mark.parametrize("document", ["docs/extending.md", "CONTRIBUTING.md"])
def test_tests_that_a_document_names_exist(document: str) -> None:
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", (ROOT / document).read_text(encoding="utf-8")))
    assert named and [name for name in sorted(named) if f"def {name}(" not in tests] == []


def test_the_first_recipe_of_the_training_guide_is_valid() -> None:
    recipe, *_ = re.findall(r"```yaml\n(.*?)```", (DOCS / "training.md").read_text(encoding="utf-8"), re.DOTALL)
    assert parse_recipe(yaml.safe_load(recipe)).method.name == "imitkd+full"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        if name.startswith("http"):
            continue
        file = (document.parent / name).resolve() if name else document
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub makes of a document's headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
