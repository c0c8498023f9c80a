"""What a student starts from: fresh weights, the teacher's embeddings or layers, or the weights of a run."""

from __future__ import annotations

from pathlib import Path

from compressor.config import TEACHER_EMBEDDINGS, TEACHER_LAYERS, Recipe
from compressor.errors import ConfigError, ModelError
from compressor.models.base import Seq2SeqModel
from compressor.models.layer_copy import copy_to_depth
from compressor.models.weights import load_run, load_weights
from compressor.run_folder import WEIGHTS_FILE, read_model
from compressor.teachers.base import Teacher

FREE_SIZES = {"dropout", "max_length"}
"""Fields of a model's configuration that weights do not depend on (positions are computed)."""
DEPTH = {"encoder_layers", "decoder_layers"}
"""Fields in which a Transformer's run may differ: its layers are left out or repeated."""


def check_start(recipe: Recipe) -> None:
    """Refuses to begin a method that is a fine-tune with a student that was not trained before. Raises ConfigError."""
    method, start = recipe.method, recipe.training.initialization
    if method.row.starts_from_run and recipe.training.initial_run is None:
        raise ConfigError(
            f"training.initialization: {start}, but {method.name} is a fine-tune on top of another run: name that "
            "run's folder (runs/first/), or train with another method first (seqkd, for example)"
        )


def initialize(student: Seq2SeqModel, teacher: Teacher, start: str) -> None:
    """Fills the student in place from its teacher. Raises ConfigError if the teacher's layers do not fit it."""
    if start == TEACHER_EMBEDDINGS:
        student.load_embeddings(teacher.embeddings())
    if start == TEACHER_LAYERS:
        model = teacher.as_model()
        if model is None:
            raise ConfigError(
                f"training.initialization: the layers of teacher {teacher.name} do not fit the student: "
                "only runs, Marian and BART checkpoints have layers that can be copied; teacher_embeddings always can"
            )
        student.load_layers(model)


def initialize_from_run(student: Seq2SeqModel, run: Path, file: Path | None = None) -> None:
    """Fills the student in place with the weights of a run, which may have another depth (see ``copy_to_depth``).

    Args:
        student: The student.
        run: The run.
        file: Weights in it; None: the best ones.

    Raises:
        ModelError: there is no such run, it is damaged, or its model has another shape; names each field that differs.
    """
    theirs, ours = read_model(run).model.model_dump(), student.config.model_dump()
    free = FREE_SIZES - {"max_length"} if ours.get("positions") == "learned" else FREE_SIZES
    differing = [
        name for name in ours.keys() | theirs.keys() if name not in free and ours.get(name) != theirs.get(name)
    ]
    if differing and student.config.copies_layers and DEPTH.issuperset(differing):
        model = load_run(run).model
        if file is not None:
            load_weights(file, model)
        return copy_to_depth(model, student)
    if differing:
        told = ", ".join(f"{name} is {ours.get(name)}, the run's {theirs.get(name)}" for name in sorted(differing))
        raise ModelError(
            f"training.initialization: {run} has a model of another shape ({told}): give the student the run's shape, "
            "or another initialization"
        )
    load_weights(file or run / WEIGHTS_FILE, student)
