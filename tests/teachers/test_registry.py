"""The registry opens a teacher with the family that recognizes its path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compressor.teacher_config import TeacherConfig
from compressor.teachers import registry


@pytest.fixture
def empty_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_LOADERS", [])
    monkeypatch.setattr(registry, "_DEFAULT", [])


@pytest.mark.usefixtures("empty_registry")
def test_family_that_recognizes_the_path_opens_it() -> None:
    opened: list[tuple[str, str]] = []

    def family(name: str) -> Any:
        return lambda config: opened.append((name, config.path))

    registry.register_teacher()(family("default"))
    registry.register_teacher(recognizes=lambda path: path.suffix == ".a")(family("a"))
    registry.register_teacher(recognizes=lambda path: path == Path("x.b"))(family("b"))
    for path in ("x.a", "x.b", "owner/name"):
        registry.load_teacher(TeacherConfig(path=path))
    assert opened == [("a", "x.a"), ("b", "x.b"), ("default", "owner/name")]
