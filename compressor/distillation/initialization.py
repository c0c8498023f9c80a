"""What a student starts from: fresh weights, the teacher's embeddings, or its layers cut to the student's shape."""

from __future__ import annotations

from compressor.config import Initialization
from compressor.errors import ConfigError
from compressor.models.base import Seq2SeqModel
from compressor.teachers.base import Teacher


def initialize(student: Seq2SeqModel, teacher: Teacher, start: Initialization) -> None:
    """Fills the student in place. Raises ConfigError if the teacher's layers do not fit it."""
    if start == "teacher_embeddings":
        student.load_embeddings(teacher.embeddings())
    if start == "teacher_layers":
        model = teacher.as_model()
        if model is None:
            raise ConfigError(
                f"training.initialization: the layers of teacher {teacher.name} do not fit the student: "
                "only native and Marian layouts can be copied; teacher_embeddings always can"
            )
        student.load_layers(model)
