"""Every ``compress`` command of the README runs, in its order, on tiny data instead of the real."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import compressor
from benchmarks.reports import docs

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL_BLOCK = re.compile(r"^```(?:sh|bash|shell|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)

# What the issue promises a user; the README shows each.
PROMISED = {"distill", "export", "bench", "translate", "evaluate", "serve"}


def commands(text: str) -> list[str]:
    """Shell lines that call ``compress``: continued lines joined, prompts dropped."""
    lines = [line for block in SHELL_BLOCK.findall(text) for line in re.sub(r"\\\n\s*", " ", block).splitlines()]
    return [line.removeprefix("$ ") for line in lines if re.search(r"(^|[|(;&] *)(\$ )?compress ", line)]


def called(command: str) -> str:
    """The subcommand of a line, or the option if it has none."""
    match = re.search(r"\bcompress (\S+)", command)
    assert match, command
    return match[1]


COMMANDS = commands(README)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path, tiny_run: Path, tiny_bundle: Path) -> Path:
    """A folder that looks like the repository to the README's commands, with tiny models inside."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "examples").mkdir()
    shutil.copytree(tiny_run, folder / "examples" / "de-en-run")
    shutil.copytree(tiny_bundle, folder / "examples" / "de-en")
    shutil.copy(tiny_corpus / "dev.de", folder / "source.txt")
    return folder


@pytest.fixture(scope="module")
def headlines(tmp_path_factory: pytest.TempPathFactory, tiny_run: Path) -> Path:
    """A bundle for summarization: the tiny model under another task."""
    import compressor

    folder = tmp_path_factory.mktemp("headlines")
    run = Path(shutil.copytree(tiny_run, folder / "run"))
    info = json.loads((run / "run.json").read_text()) | {"task": "summarization"}
    (run / "run.json").write_text(json.dumps(info))
    recipe = (run / "recipe.yaml").read_text().replace("task: translation", "task: summarization")
    (run / "recipe.yaml").write_text(recipe)
    return compressor.export(run, folder / "bundle", precisions=("fp32",))


def tiny(command: str, recipe: Path, teacher: Path, headlines: Path | None) -> str:
    """The command with real data and models replaced by tiny ones; everything else as the README has it."""
    table = [
        (r"""--set ['"]?(student|training|tokenizer|data\.(?!root))[\w.]*=('[^']*'|"[^"]*"|[^\s'"]*)['"]?""", ""),
        (r"configs/[\w-]+\.yaml", str(recipe)),
        (r"data\.root=\S+", f"data.root={recipe.parent}"),
        (r"teacher\.path=\S+", f"teacher.path={teacher} --set method.name=imitkd+full --set training.updates=8"),
        (r"--teacher \S+", f"--teacher {teacher}"),
        (r"--run \S+", f"--run {teacher}"),
        (r"--source \S+", f"--source {recipe.parent / 'dev.de'}"),
        (r"--reference \S+", f"--reference {recipe.parent / 'dev.en'}"),
        (r"compress bench\b", "compress bench --sentences 4 --repeats 1 --warmup 0 --batch-size 1"),
        (r"compress summarize \S+", f"compress summarize {headlines}"),
        (r"< \S+", "< source.txt"),
    ]  # fmt: skip
    if called(command) == "bench":
        command = re.sub(r" --(sentences|repeats|warmup|batch-size|threads|num-beams|peers) \S+", "", command)
    for pattern, replacement in table:
        command = re.sub(pattern, replacement, command)
    return command


def shell(command: str, folder: Path) -> subprocess.Popen[str]:
    """Starts a line in bash, where ``compress`` is this environment's."""
    program = f'set -euo pipefail; compress() {{ "{sys.executable}" -m compressor "$@"; }}; {command}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        ["bash", "-c", program], cwd=folder, env=environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def test_the_readme_shows_what_was_promised() -> None:
    assert {called(command) for command in COMMANDS} >= PROMISED


@pytest.mark.parametrize("path", ["README.md", "docs/results.md"])
def test_tables_are_made_from_the_results(path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    assert docs.MARKED.search(text)
    assert docs.fill(text) == text, f"run: python -m benchmarks report --docs {path}"


@pytest.mark.parametrize(
    ("folder", "most"), [("de-en", 8e6), ("de-en-run", 15e6), ("titles", 8e6), ("de-en-teacher", 32e6)]
)
def test_the_examples_are_small_and_whole(folder: str, most: float) -> None:
    files = [path for path in (ROOT / "examples" / folder).rglob("*") if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in files) <= most


def test_the_first_example_is_true() -> None:
    said = re.search(r'echo "(.+?)" \| compress translate (\S+)\n```\n\n```text\n(.+?)\n```', README, re.DOTALL)
    assert said
    generator = compressor.load(ROOT / said[2])
    assert [result.text for result in generator.generate([said[1]])] == [said[3]]


@pytest.mark.slow
def test_commands_run(request: pytest.FixtureRequest, world: Path, tiny_recipe: Path, tiny_run: Path) -> None:
    needs_headlines = any(called(command) == "summarize" for command in COMMANDS)
    headlines = request.getfixturevalue("headlines") if needs_headlines else None
    for command in COMMANDS:
        if called(command) == "demo":
            continue  # tests/cli/test_demo.py runs it
        with shell(tiny(command, tiny_recipe, tiny_run, headlines), world) as process:
            if called(command) == "serve":
                assert starts(process), command
            else:
                printed, _ = process.communicate(timeout=300)
                assert process.returncode == 0, f"{command}\n{printed}"


def starts(process: subprocess.Popen[str]) -> bool:
    """Whether a server loads its models; it is stopped then."""
    assert process.stdout is not None
    deadline = time.monotonic() + 60
    try:
        for line in process.stdout:
            if "loaded" in line:
                return True
            if time.monotonic() > deadline:
                break
        return False
    finally:
        os.killpg(process.pid, 15)
        process.stdout.read()
