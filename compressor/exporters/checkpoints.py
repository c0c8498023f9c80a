"""Loads what can be exported: a run, or a checkpoint in Marian's or BART's layout."""

from __future__ import annotations

from pathlib import Path

from compressor.bundle import MANIFEST_FILE
from compressor.data_config import Task
from compressor.errors import ConfigError, ExportError
from compressor.models.weights import Run, load_run
from compressor.run_folder import RUN_FILE, RunRecord, TeacherRecord, is_run, read_record
from compressor.teacher_config import TeacherConfig
from compressor.teachers.registry import load_teacher

_LANGUAGE_FIELDS = ("teacher.source_language", "teacher.target_language")


def load_exportable(path: Path, task: Task | None = None) -> Run:
    """Loads a run folder, or a Hugging Face folder or hub name in Marian's or BART's layout.

    Args:
        path: The folder, or the name.
        task: Task of a checkpoint; None: translation, as for every Marian model.

    Raises:
        ConfigError: a task is given for a run, whose record has it.
        ModelError: there is no such model, or it is damaged.
        ExportError: it has another layout.
    """
    if (path / MANIFEST_FILE).is_file():
        raise ExportError(f"{path}: a bundle already; give the run or the checkpoint that it was exported from")
    if is_run(path) or not _is_checkpoint(path):
        if task is not None and is_run(path):
            message = f"{path}: a run has a task of its own, {{task}} is for checkpoints"
            raise ConfigError(message, options=["task"])
        return load_run(path)
    refusal = f"{path}: only runs, Marian and BART checkpoints can be exported as they are: distil a student of it"
    try:
        teacher = load_teacher(TeacherConfig(path=str(path)))
    except ConfigError as error:
        if error.message.startswith(_LANGUAGE_FIELDS):  # mBART, M2M100 and NLLB; an export has no such options
            raise ExportError(refusal) from None
        raise
    model = teacher.as_model()
    if model is None:
        raise ExportError(refusal)
    if (path / RUN_FILE).is_file():  # exported from a run, whose record it keeps
        record = read_record(path)
    else:
        origin = TeacherRecord(name=teacher.name, parameters=teacher.parameters)
        record = RunRecord(teacher=origin, parameters=teacher.parameters)
    record = record.model_copy(update={"task": task or record.task or "translation"})
    return Run(model, teacher.generation, teacher.tokenizer, record=record)


def _is_checkpoint(path: Path) -> bool:
    """Returns whether a path is a Hugging Face folder, or a hub name ``owner/name`` without such a folder."""
    looks_like_name = not path.is_absolute() and len(path.parts) == 2 and not Path(path.parts[0]).exists()
    return (path / "config.json").is_file() or looks_like_name
