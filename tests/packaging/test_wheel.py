"""One wheel that works in an empty environment with nothing but the serve extra: no torch, no source tree."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = ROOT / "examples" / "de-en"

pytestmark = pytest.mark.slow


def output(*command: str | Path, text: str | None = None, cwd: Path | None = None) -> str:
    done = subprocess.run([str(word) for word in command], input=text, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the working tree, built from a copy so that nothing is left in it."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    listed = output("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    for name in listed:
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    output(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out, ".", cwd=copy)
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the programs of a fresh environment with ``wheel[serve-cpu]``."""
    home = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(home, with_pip=True)
    programs = home / "bin"
    constraints = ROOT / "constraints.txt"
    output(programs / "python", "-m", "pip", "install", "--quiet", "-c", constraints, f"{wheel}[serve-cpu]")
    return programs


@pytest.fixture(scope="module")
def bundle(request: pytest.FixtureRequest) -> Path:
    return EXAMPLE if (EXAMPLE / "bundle.json").is_file() else request.getfixturevalue("tiny_bundle")


def test_what_is_in_the_wheel(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"compressor", "serving", "benchmarks"}
    sources = {path.relative_to(ROOT).as_posix() for top in ("compressor", "serving", "benchmarks")
               for path in (ROOT / top).rglob("*.py")}  # fmt: skip
    assert sources <= set(names)
    static = ROOT / "serving" / "static"
    assert {path.relative_to(ROOT).as_posix() for path in static.rglob("*") if path.is_file()} <= set(names)
    assert {"compressor/py.typed", "compressor/cli/recipes/demo-translation.yaml"} <= set(names)
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert not [name for name in names if "test" in Path(name).name or "__pycache__" in name]


def test_no_torch_came_along(installed: Path) -> None:
    packages = {
        item["name"].lower() for item in json.loads(output(installed / "python", "-m", "pip", "list", "--format=json"))
    }
    assert "onnxruntime" in packages
    assert packages.isdisjoint({"torch", "transformers", "onnx", "datasets", "accelerate", "onnxruntime-gpu"})


def test_translate(installed: Path, bundle: Path, tmp_path: Path) -> None:
    text = "Der Hund sieht den Baum.\n\nDer Mann sucht den Tisch.\n"
    lines = output(installed / "compress", "translate", bundle, text=text, cwd=tmp_path).split("\n")
    assert len(lines) == 4 and lines[0] and lines[1] == "" and lines[2] and lines[3] == ""


def test_serve(installed: Path, bundle: Path, tmp_path: Path) -> None:
    sentence = "Der Hund sieht den Baum."
    expected = output(installed / "compress", "translate", bundle, text=f"{sentence}\n", cwd=tmp_path).rstrip("\n")
    with serving(installed / "compress", bundle, tmp_path) as address:
        body = json.dumps({"inputs": [sentence], "source": "de", "target": "en"}).encode()
        request = urllib.request.Request(f"{address}/v1/translate", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            answer = json.load(response)
    assert [item["text"] for item in answer["outputs"]] == [expected]


@contextmanager
def serving(program: Path, bundle: Path, cwd: Path) -> Iterator[str]:
    """A server on a free port, ready; its address is read from what it says on standard error."""
    command = [str(program), "serve", str(bundle), "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=cwd, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            address = next(
                match[0] for line in process.stderr if (match := re.search(r"http://127\.0\.0\.1:\d+", line))
            )
            next(line for line in process.stderr if "loaded" in line)
            yield address
        finally:
            process.terminate()
            process.stderr.read()
    assert process.returncode == 0


def test_the_demo_finds_its_recipes(installed: Path) -> None:
    code = "from compressor.cli.demo import RECIPES; print(sorted(path.name for path in RECIPES.glob('demo-*.yaml')))"
    assert output(installed / "python", "-c", code).strip() == "['demo-summarization.yaml', 'demo-translation.yaml']"
