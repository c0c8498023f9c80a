"""Opens a teacher of either kind."""

from __future__ import annotations

from pathlib import Path

from compressor.config import TeacherConfig
from compressor.run_folder import is_run
from compressor.teachers.base import Teacher
from compressor.teachers.huggingface import HuggingFaceTeacher
from compressor.teachers.native import NativeTeacher


def load_teacher(config: TeacherConfig) -> Teacher:
    """A run folder gives a native teacher, everything else a Hugging Face one. Raises ModelError."""
    folder = Path(config.path)
    return NativeTeacher(folder, config) if is_run(folder) else HuggingFaceTeacher(config)
