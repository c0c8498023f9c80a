"""Records and file names of a run folder, the result of ``compress train`` and ``compress distill``. Needs no torch.

::

    model.json             `ModelRecord`: architecture and search defaults
    model.safetensors      weights of the best dev score, fp16
    run.json               `RunRecord`: task, method, scores, lineage, provenance
    recipe.yaml            the whole recipe, defaults included
    tokenizer/             as ``compressor.text.tokenizer`` saves it
    metrics.jsonl          training curves
    samples.jsonl          outputs for a few dev sources at every dev score
    tensorboard/           curves and samples for TensorBoard, if the recipe asks for them
    labels/                the teacher's outputs (``compressor.distillation.label_store``), for the methods that learn
                           from them, unless the recipe names a folder of them
    checkpoint/            what ``--resume`` reads (model.safetensors, optimizer.safetensors, progress.json); removed
                           when the run is finished
    checkpoints/           weights of the last dev scores, fp16, by update, if the recipe keeps them
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from compressor.config import Recipe, dump_recipe, load_recipe
from compressor.data_config import Task
from compressor.errors import ModelError
from compressor.files import write_atomic
from compressor.generation_config import GenerationConfig
from compressor.model_config import ModelConfig
from compressor.output_limit import OutputLimit
from compressor.teacher_config import LabelEngineName

MODEL_FILE, WEIGHTS_FILE, RUN_FILE, RECIPE_FILE = "model.json", "model.safetensors", "run.json", "recipe.yaml"
METRICS_FILE, SAMPLES_FILE, TENSORBOARD_FOLDER = "metrics.jsonl", "samples.jsonl", "tensorboard"
LABELS_FILE, LABELS_FOLDER, LABEL_ENGINE_FOLDER = "labels.json", "labels", "label_engine"
TOKENIZER_FOLDER, CHECKPOINT_FOLDER, PROGRESS_FILE = "tokenizer", "checkpoint", "progress.json"
WEIGHTS_FOLDER = "checkpoints"


def _is_none(value: object) -> bool:
    return value is None


class RunPart(BaseModel):
    """Base of the records of a run: frozen, unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelRecord(RunPart):
    """Content of ``model.json``."""

    model: ModelConfig
    generation: GenerationConfig


class Fingerprint(RunPart):
    """Identity of a data file or data set."""

    name: str = Field(description="Relative path, or the name of the data set; never a folder of this machine.")
    rows: int = Field(ge=0, description="Examples that were read.")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="Hexadecimal digest of the file as it lies on disk.")


class DropRecord(RunPart):
    """Number of examples that were read, dropped and left."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    read: int = Field(ge=0, description="Examples that were read.")
    remaining: int = Field(
        ge=0, validation_alias="kept", serialization_alias="kept", description="Examples that remain."
    )
    dropped: dict[str, int] = Field({}, description="Reason to count.")
    examples: dict[str, list[str]] = Field({}, description="Reason to the first examples dropped for it.")


class DataRecord(RunPart):
    """Data that a run was trained and selected on."""

    dev: tuple[Fingerprint, ...] = Field(description="Files of the development set.")
    train: tuple[Fingerprint, ...] = Field(description="Files of the parallel data.")
    mono: tuple[Fingerprint, ...] = Field(
        (), exclude_if=lambda value: not value, description="Files of the sources without references."
    )
    report: DropRecord = Field(description="Counts over train and mono.")
    report_text: str = Field(description="The counts as a paragraph.")


class TeacherRecord(RunPart):
    """Identity of the teacher."""

    name: str = Field(description="Last part of the folder, or the hub name.")
    revision: str | None = Field(None, description="Revision on the hub.")
    parameters: int | None = Field(None, ge=0, description="Trained numbers.")


class VocabularyRecord(RunPart):
    """The part of the teacher's vocabulary that the student has."""

    tokens: int = Field(ge=1, description="Tokens of the student.")
    teacher_tokens: int = Field(ge=1, description="Rows of the teacher's output layer.")
    lost_mass: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Mean probability that the teacher gives tokens which the student lacks, in the student's outputs "
        "for dev sources at the last dev score; of labels on disk, in the references of dev sources.",
    )


class DevScores(RunPart):
    """Scores on the development set; null where the task has no such metric."""

    bleu: float | None = None
    chrf: float | None = None
    rouge1: float | None = None
    rouge2: float | None = None
    rouge_l: float | None = None
    signature: str | None = Field(None, description="Signature of the metrics.")


class LabelRecord(RunPart):
    """Who wrote the teacher's outputs that a run learned from."""

    engine: LabelEngineName = Field(description="onnx: the teacher in int8 with the search in the graph; or torch.")
    outputs: int = Field(ge=0, description="Outputs that were written.")
    outputs_per_second: float | None = Field(None, description="Over all of them, export and comparison included.")
    bleu_against_torch: float | None = Field(None, description="Of onnx: BLEU with PyTorch's outputs as references.")
    compared: int | None = Field(None, description="Of onnx: sources that this was measured on.")


class RunRecord(RunPart):
    """Content of ``run.json``. The fields are null where a model was not trained by a recipe."""

    finished: bool = Field(False, description="Whether training came to its end.")
    task: Task | None = Field(None, description="What the model does.")
    source_language: str | None = Field(None, description="ISO code.")
    target_language: str | None = Field(None, description="ISO code.")
    licence: str | None = Field(None, description="Terms of the weights.")
    method: str | None = Field(None, description="Row of the method table.")
    parameters: int | None = Field(None, ge=0, description="Trained numbers, tied weights once.")
    updates: int | None = Field(None, ge=0, description="Updates that were made.")
    best_update: int | None = Field(None, ge=0, description="Update with the best dev score.")
    averaged: tuple[int, ...] | None = Field(
        None, exclude_if=_is_none, description="Updates whose weights were averaged; null: those of best_update."
    )
    epoch: int | None = Field(None, ge=0, exclude_if=_is_none, description="Whole passes that were made.")
    stretch: int | None = Field(
        None, ge=0, exclude_if=_is_none, description="Stretches that were made of the pass that was begun."
    )
    batch: int | None = Field(
        None, ge=0, exclude_if=_is_none, description="Batches of a process in the stretch that was begun."
    )
    processes: int | None = Field(None, ge=1, exclude_if=_is_none, description="Processes that shared the run.")
    seconds: float | None = Field(None, ge=0, description="Time of updates and of the teacher's outputs.")
    target_tokens: int | None = Field(
        None, ge=0, exclude_if=_is_none, description="Positions that carried loss, over all updates."
    )
    target_tokens_per_second: float | None = Field(
        None, ge=0, exclude_if=_is_none, description="Over the time of updates, rollouts included."
    )
    rollout_time: float | None = Field(
        None, ge=0, le=1, exclude_if=_is_none, description="Share of the time of updates that rollouts took."
    )
    stopped_early: bool = Field(
        False, exclude_if=operator.not_, description="Whether `training.patience` ended the run."
    )
    dev: DevScores | None = Field(None, description="Best dev scores.")
    teacher: TeacherRecord | None = Field(None, description="Null without a teacher.")
    vocabulary: VocabularyRecord | None = Field(
        None, exclude_if=_is_none, description="Null where the student has all of the teacher's tokens."
    )
    labels: LabelRecord | None = Field(
        None, exclude_if=_is_none, description="Null where the method reads no outputs of the teacher."
    )
    data: DataRecord | None = Field(None, description="What it was trained on.")
    output_limit: OutputLimit | None = Field(
        None, exclude_if=_is_none, description="Longest output by source length; learned from data."
    )
    provenance: dict[str, Any] | None = Field(None, description="See ``compressor.provenance.provenance``.")


Record = TypeVar("Record", ModelRecord, RunRecord)


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run."""
    return (folder / MODEL_FILE).is_file()


def is_finished(folder: Path) -> bool:
    """Whether a folder holds a run that came to its end. Raises ModelError if its ``run.json`` is damaged."""
    return (folder / RUN_FILE).is_file() and read_record(folder).finished


def missing_files(folder: Path) -> list[str]:
    """Names of the required files that a run folder lacks."""
    return [name for name in (MODEL_FILE, RUN_FILE, WEIGHTS_FILE) if not (folder / name).is_file()]


def read_model(folder: Path) -> ModelRecord:
    """Reads ``model.json``.

    Raises:
        ModelError: the folder is not a run, or the file is damaged or has unknown or wrong fields (all listed).
    """
    if not is_run(folder):
        raise ModelError(f"{folder}: not a run folder ({MODEL_FILE} is missing)")
    return _read(folder / MODEL_FILE, ModelRecord)


def read_record(folder: Path) -> RunRecord:
    """Reads ``run.json``; an empty record if there is no such file.

    Raises:
        ModelError: the file is damaged or has unknown or wrong fields (all listed).
    """
    path = folder / RUN_FILE
    return _read(path, RunRecord) if path.exists() else RunRecord()


def read_recipe(folder: Path, overrides: Sequence[str] = ()) -> Recipe | None:
    """Reads ``recipe.yaml`` with ``key.path=value`` overrides; None if there is no such file.

    Raises:
        ConfigError: the recipe or an override is wrong.
    """
    path = folder / RECIPE_FILE
    return load_recipe(path, list(overrides)) if path.exists() else None


def write_records(folder: Path, model: ModelRecord, record: RunRecord, recipe: Recipe | None = None) -> None:
    """Writes the records, each whole or not at all, ``model.json`` last. Raises StorageError."""
    if recipe is not None:
        write_atomic(folder / RECIPE_FILE, dump_recipe(recipe))
    write_atomic(folder / RUN_FILE, record.model_dump_json(indent=1) + "\n")
    write_atomic(folder / MODEL_FILE, model.model_dump_json(indent=1) + "\n")


def _read(path: Path, kind: type[Record]) -> Record:
    """Reads a record from a JSON file. Raises ModelError, with all wrong fields."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}".lstrip(": ") for item in error.errors())
        raise ModelError(f"{path}: damaged ({wrong})") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
