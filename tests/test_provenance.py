"""Provenance records the environment and no private data."""

from __future__ import annotations

import getpass
import json
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from compressor import provenance as module
from compressor.provenance import provenance, sanitize


def test_all_fields_are_serializable() -> None:
    record = json.loads(json.dumps(provenance(seed=7, command=["compress", "bench"])))
    assert list(record) == ["date", "commit", "dirty", "command", "seed", "python", "platform", "versions", "cpu"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record["date"])
    assert (record["command"], record["seed"]) == ("compress bench", 7)
    assert record["versions"]["sacrebleu"] == version("sacrebleu")
    assert record["cpu"]["cores"] >= 1
    assert provenance()["seed"] is None


def test_no_private_data_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = Path.home() / "secret-folder" / "data"
    monkeypatch.setattr(sys, "argv", ["/opt/somewhere/bin/compress", "distill", "--out", str(secret), f"a.b={secret}"])
    text = json.dumps(provenance())
    assert '"compress distill --out data a.b=data"' in text
    assert "/" not in json.loads(text)["command"]
    for private in ("secret-folder", platform.node(), str(Path.home())):
        assert private not in text
    if len(getpass.getuser()) > 4:
        assert getpass.getuser() not in text


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("{cwd}/runs/x", "runs/x"),
        ("data.root=/srv/corpora/data", "data.root=data"),
        ("--out=~/x/y", "--out=y"),
        ("/srv/my files/a b", "a b"),
        ("../shared/data", "../shared/data"),
        ("../../../home/someone/x", "x"),
        ("{root: /home/someone/x, n: 2}", "{root: x, n: 2}"),
        ("fp32,int8", "fp32,int8"),
        ("configs/de-en.yaml", "configs/de-en.yaml"),
        ("--force", "--force"),
        ("Helsinki-NLP/opus-mt-de-en", "Helsinki-NLP/opus-mt-de-en"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("--url=https://host.example/path", "--url=https://host.example/path"),
    ],
)
def test_sanitize_shortens_absolute_paths(argument: str, expected: str) -> None:
    assert sanitize(argument.replace("{cwd}", os.getcwd())) == expected


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_commit_is_read_from_the_packages_own_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "compressor"
    package.mkdir()
    (package / "provenance.py").write_text("x = 1\n")
    monkeypatch.setattr(module, "__file__", str(package / "provenance.py"))
    assert (provenance()["commit"], provenance()["dirty"]) == (None, None)
    git(tmp_path, "init", "-q")
    assert provenance()["commit"] is None  # no commit yet
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    assert (provenance()["commit"], provenance()["dirty"]) == (git(tmp_path, "rev-parse", "HEAD"), False)
    (package / "provenance.py").write_text("x = 2\n")
    assert provenance()["dirty"] is True


def test_commit_is_none_without_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance()["commit"] is None


@pytest.mark.parametrize(
    ("content", "model", "features"),
    [
        (
            "processor : 0\nmodel name\t: Some CPU\nflags\t: fpu avx2 fma avx512_vnni rdtscp\n",
            "Some CPU",
            ["avx2", "fma", "avx512_vnni"],
        ),
        ("processor : 0\nFeatures : fp asimd i8mm bf16\n", None, ["asimd", "bf16", "i8mm"]),
    ],
)
def test_cpu_features_are_parsed_from_cpuinfo(
    tmp_path: Path, content: str, model: str | None, features: list[str]
) -> None:
    (tmp_path / "cpuinfo").write_text(content)
    actual_model, actual = module._cpuinfo(tmp_path / "cpuinfo")
    assert actual == features
    if model:
        assert actual_model == model
    assert module._cpuinfo(tmp_path / "absent")[1] == []
