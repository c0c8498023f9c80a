"""The registry of teacher families; ``load_teacher`` opens a teacher with the family that recognizes its path.

A family is a module with a ``Teacher`` subclass under ``@register_teacher``, imported by ``teachers/__init__.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from compressor.bundle import MANIFEST_FILE
from compressor.errors import ModelError
from compressor.teacher_config import TeacherConfig
from compressor.teachers.base import Teacher

Loader = Callable[[TeacherConfig], Teacher]
L = TypeVar("L", bound=Loader)

_LOADERS: list[tuple[Callable[[Path], bool], Loader]] = []
_DEFAULT: list[Loader] = []


def register_teacher(recognizes: Callable[[Path], bool] | None = None) -> Callable[[L], L]:
    """Returns a class decorator that registers a teacher family; the class is called with a ``TeacherConfig``.

    Args:
        recognizes: Whether a path holds a teacher of the family. None: the family opens what no other recognizes.
    """

    def register(loader: L) -> L:
        if recognizes is None:
            _DEFAULT[:] = [loader]
        else:
            _LOADERS.append((recognizes, loader))
        return loader

    return register


def load_teacher(config: TeacherConfig) -> Teacher:
    """Opens the teacher at ``config.path``.

    Raises:
        ModelError: the teacher is missing or damaged.
        ConfigError: the recipe asks for something that the teacher cannot do.
    """
    path = Path(config.path)
    if (path / MANIFEST_FILE).is_file():
        raise ModelError(
            f"teacher {config.path}: a bundle, whose graphs write outputs but give no distributions; give the run or "
            "the checkpoint that it was exported from"
        )
    loader = next((loader for recognizes, loader in _LOADERS if recognizes(path)), *_DEFAULT)
    return loader(config)
