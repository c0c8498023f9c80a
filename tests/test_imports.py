"""The import order of the design, read from the source: no new arrow, no cycle, no torch where there must be none."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("compressor", "serving", "benchmarks")

# part -> the parts it may import besides itself; "base" is every
# module that lies directly in compressor/.
ALLOWED = {
    "base": set(),
    "text": {"base"},
    "data": {"base", "text", "data.synthetic"},
    "data.synthetic": {"base", "data"},
    "models": {"base", "text"},
    "decoding": {"base", "models"},
    "teachers": {"base", "text", "models", "decoding", "teachers.conversion"},
    "teachers.conversion": {"base", "text", "models"},
    "distillation": {"base", "text", "data", "models", "decoding", "teachers"},
    "runtime": {"base", "text"},
    "exporters": {
        "base",
        "text",
        "data",
        "models",
        "decoding",
        "teachers",
        "teachers.conversion",  # writes the layout that it reads
        "distillation",
        "runtime",
        "exporters.graphs",
        "exporters.quantization",
        "exporters.checks",
    },
    "exporters.graphs": {"base", "models", "decoding"},
    "exporters.quantization": {"base", "models", "decoding", "runtime", "exporters.graphs"},
    "exporters.checks": {"base", "text", "data", "models", "decoding", "runtime", "exporters.graphs"},
    "serving": {"base", "text", "runtime", "serving.routes"},
    "serving.routes": {"base", "text", "runtime", "serving"},
    "benchmarks": {"base"}
    | {f"benchmarks.{name}" for name in ("latency", "quality", "reports", "roofline", "serving", "training")},
    "benchmarks.measure": {"base"},
    "benchmarks.engines": {
        "base",
        "text",
        "models",
        "decoding",
        "teachers.conversion",
        "exporters",
        "runtime",
        "benchmarks",
        "benchmarks.measure",
    },
    "benchmarks.quality": {
        "base",
        "text",
        "data",
        "models",
        "decoding",
        "teachers",
        "distillation",
        "exporters",
        "exporters.checks",
        "runtime",
        "benchmarks.measure",
        "benchmarks.engines",
    },
    "benchmarks.training": {
        "base",
        "data",
        "models",
        "teachers.conversion",
        "distillation",
        "benchmarks.measure",
    },
    "benchmarks.latency": {
        "base",
        "text",
        "runtime",
        "benchmarks.measure",
        "benchmarks.engines",
        "benchmarks.quality",
    },
    "benchmarks.serving": {
        "base",
        "text",
        "runtime",
        "serving",  # the engine of a set speed runs in the server itself
        "benchmarks.measure",
        "benchmarks.engines",
    },
    "benchmarks.roofline": {"base", "runtime", "benchmarks.measure", "benchmarks.engines"},
    "benchmarks.reports": {
        "base",
        "benchmarks.measure",
        "benchmarks.engines",
        "benchmarks.latency",
        "benchmarks.roofline",
    },
    "cli": {
        "base",
        "text",
        "data",
        "data.synthetic",
        "models",
        "decoding",
        "teachers",
        "distillation",
        "exporters",
        "runtime",
        "serving",
        "benchmarks.latency",
        "benchmarks.quality",
        "benchmarks.reports",
        "benchmarks.measure",
        "benchmarks.engines",
    },
}
PROGRAMS = ("compressor.__main__", "benchmarks.__main__")  # entry points, which use the command line's errors
LAZY = ("compressor", "compressor.cli")  # may import inside functions


class Arrow(NamedTuple):
    importer: str
    imported: str
    line: int
    inside_function: bool


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    return {module_name(path): path for package in PACKAGES for path in (ROOT / package).rglob("*.py")}


def part_of(module: str) -> str:
    """The innermost part that a module lies in."""
    names = module.removeprefix("compressor.").split(".")
    inside = [".".join(names[:length]) for length in range(len(names), 0, -1)]
    return next((name for name in inside if name in ALLOWED), "base")


def imports(module: str) -> Iterator[Arrow]:
    """Imports of project modules; those under ``if TYPE_CHECKING`` name types and are no arrows."""
    tree = ast.parse(modules()[module].read_text(encoding="utf-8"))

    def visit(node: ast.AST, inside: bool) -> Iterator[Arrow]:
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            return
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (Arrow(module, name, node.lineno, inside) for name in targets(node))
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    return visit(tree, False)


def targets(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    else:
        assert node.level == 0, f"relative import, line {node.lineno}"
        base = node.module or ""
        names = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules() else base for alias in node.names]
    return [name for name in dict.fromkeys(names) if name.split(".")[0] in PACKAGES]


@cache
def arrows() -> tuple[Arrow, ...]:
    return tuple(arrow for module in modules() for arrow in imports(module))


def test_every_import_follows_the_order() -> None:
    wrong = [
        f"{arrow.importer}:{arrow.line} imports {arrow.imported}"
        for arrow in arrows()
        if arrow.importer not in LAZY and arrow.importer not in PROGRAMS
        if part_of(arrow.imported) not in ALLOWED[part_of(arrow.importer)] | {part_of(arrow.importer)}
    ]
    assert wrong == []


def test_only_the_command_line_and_the_api_import_inside_functions() -> None:
    wrong = [
        f"{arrow.importer}:{arrow.line} imports {arrow.imported} inside a function"
        for arrow in arrows()
        if arrow.inside_function and arrow.importer != "compressor" and part_of(arrow.importer) != "cli"
    ]
    assert wrong == []


def test_no_cycles_between_modules() -> None:
    graph: dict[str, set[str]] = {}
    for arrow in arrows():
        if not arrow.inside_function and arrow.imported != arrow.importer:
            graph.setdefault(arrow.importer, set()).add(arrow.imported)
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle


@pytest.mark.parametrize("name", ["distill", "train", "export", "load"])
def test_no_subpackage_has_the_name_of_a_function(name: str) -> None:
    assert f"compressor.{name}" not in modules()


def test_every_package_folder_is_a_package() -> None:
    folders = {path.parent for path in modules().values()}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


BLOCKED = """
import importlib.abc, sys

BLOCKED = {"torch", "transformers", "onnx", "onnx_ir", "onnxscript", "datasets", "accelerate", "safetensors"}

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"blocked: {name}", name=name)

sys.meta_path.insert(0, Block())
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


@pytest.mark.parametrize("part", ["runtime", "serving", "cli", "base"])
def test_imports_without_torch(part: str) -> None:
    names = sorted(name for name in modules() if part_of(name) == part and not name.endswith("__main__"))
    done = subprocess.run([sys.executable, "-c", BLOCKED, *names], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
