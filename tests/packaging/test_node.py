"""The Node example gives the Python runtime's outputs: the whole search is in the graph, whatever the language."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from compressor.runtime.generator import Generator

ROOT = Path(__file__).resolve().parents[2]
TEXTS = ["Ein Hund rennt durch den Schnee.", "Ja.", "Zwei Männer stehen vor einem Haus.", "Wo bist du gewesen?"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("node") / "example"
    shutil.copytree(ROOT / "examples" / "node", folder, ignore=shutil.ignore_patterns("node_modules"))
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "generate.mjs"


@pytest.mark.parametrize("num_beams", [1, 4])
def test_node_gives_the_same_outputs(program: Path, num_beams: int) -> None:
    bundle = ROOT / "examples" / "de-en"
    generator = Generator.load(bundle)
    sources = [generator.tokenizer.encode_source(text) for text in TEXTS]
    lines = "".join(f"{json.dumps(ids)}\n" for ids in sources)
    command = ["node", str(program), str(bundle), "--num-beams", str(num_beams)]
    done = subprocess.run(command, input=lines, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outputs = [json.loads(line) for line in done.stdout.splitlines()]
    assert outputs == generator.generate_ids(sources, num_beams=num_beams)
