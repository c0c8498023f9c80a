"""The teacher exported to int8, with the search in the graph, as the engine that writes its outputs."""

from __future__ import annotations

import math
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from compressor.bundle import MANIFEST_FILE, TOKENIZER_FOLDER, dump_manifest, open_bundle
from compressor.decoding.search import Hypothesis
from compressor.distillation.setup import Setup
from compressor.errors import BundleError, ExportError
from compressor.exporters.checks.dev_set import evenly_spaced
from compressor.exporters.graphs.search_loop import build_graphs
from compressor.exporters.manifest import draft
from compressor.exporters.quantization.precision import (
    CALIBRATION_SOURCES,
    QuantizationInputs,
    QuantizedPrecision,
    plan_precision,
)
from compressor.files import write_atomic
from compressor.models.weights import Run
from compressor.output_folder import new_folder
from compressor.processors import available_cpus
from compressor.run_folder import RunRecord, TeacherRecord
from compressor.runtime.generator import Generator
from compressor.runtime.session import check_onnxruntime
from compressor.teacher_config import LabelEngineName

PRECISION = "int8"
BATCH_SIZE, BATCH_TOKENS = 32, 2048
"""Most sentences, and most padded source tokens, of a batch; measured."""
BATCHES = 8
"""Batches of a call for each thread."""


class PackedTeacher(NamedTuple):
    """An exported teacher on its way to another process."""

    files: dict[str, bytes]
    """Relative path to content."""
    num_beams: int


class ExportedTeacher:
    """A ``LabelEngine`` on the processor, without the checks of a bundle that is published.

    It can be pickled, with its files; another process opens it with one thread, and beams up to those of the recipe.

    Raises:
        ExportError: the teacher's layout, widths or limits cannot be exported, or training runs on a GPU.
        DependencyError: ONNX Runtime is missing or too old.
    """

    name: LabelEngineName = "onnx"

    def __init__(self, setup: Setup, folder: Path) -> None:
        """Exports the teacher to ``folder``, unless it is there, and opens it."""
        assert setup.recipe.teacher is not None
        check_onnxruntime()
        if torch.accelerator.is_available():
            raise ExportError("on a GPU it is faster than the exported teacher")
        try:
            manifest = open_bundle(folder)
        except BundleError:
            _export(setup, folder)
            manifest = open_bundle(folder)
        for name, wanted, limit in (
            ("data.max_source_tokens", setup.recipe.data.max_source_tokens, manifest.max_source_tokens),
            ("teacher.num_beams", setup.recipe.teacher.num_beams, manifest.max_num_beams),
        ):
            if wanted > limit:
                raise ExportError(f"{name} is {wanted}, and the teacher's graphs take {limit} at most")
        self._open(folder, setup.recipe.teacher.num_beams, setup.recipe.training.threads or available_cpus())

    def __getstate__(self) -> PackedTeacher:
        """Returns the exported files."""
        files = [path for path in self._folder.rglob("*") if path.is_file()]
        content = {path.relative_to(self._folder).as_posix(): path.read_bytes() for path in files}
        return PackedTeacher(content, self._num_beams)

    def __setstate__(self, packed: PackedTeacher) -> None:
        """Writes the files to a temporary folder, which lasts as long as this object, and opens them."""
        folder = Path(tempfile.mkdtemp())
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        for name, content in packed.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        self._open(folder, packed.num_beams, threads=1)

    def _open(self, folder: Path, num_beams: int, threads: int) -> None:
        self._folder, self._num_beams = folder, num_beams
        self.generator = Generator(
            folder,
            open_bundle(folder),
            precision=PRECISION,
            intra_threads=1,
            inter_threads=threads,
            num_beams=num_beams,
        )
        self.chunk_tokens = BATCHES * BATCH_TOKENS * threads

    def hypotheses(self, sources: Sequence[list[int]], num_beams: int, num_return: int = 1) -> list[list[Hypothesis]]:
        """See LabelEngine."""
        searched = self.generator.search_ids(
            sources,
            num_beams=num_beams,
            num_return_sequences=num_return,
            batch_tokens=BATCH_TOKENS,
            batch_size=BATCH_SIZE,
        )
        return [
            [Hypothesis(math.nan if one.score is None else one.score, one.token_ids) for one in outputs]
            for outputs in searched
        ]


def _export(setup: Setup, folder: Path) -> None:
    """Writes a bundle of the teacher in int8, calibrated on training sources. Raises ExportError."""
    teacher, sources = setup.teacher, setup.train.sources
    assert teacher is not None
    model = teacher.as_model()
    if model is None:
        raise ExportError(f"{teacher.name} has a layout that cannot be exported, only runs, Marian and BART can")
    limit = {"max_source_tokens": teacher.max_source or setup.recipe.data.max_source_tokens}
    origin = TeacherRecord(name=teacher.name, parameters=teacher.parameters)
    record = RunRecord(task=setup.recipe.task, teacher=origin)
    run = Run(model, teacher.generation.model_copy(update=limit), teacher.tokenizer, record=record)
    calibration = [sources[index].tolist() for index in evenly_spaced(len(sources), CALIBRATION_SOURCES)]
    with new_folder(folder, force=True) as temporary:
        inputs = QuantizationInputs(run, build_graphs(model, run.generation), {}, calibration, temporary)
        QuantizedPrecision(PRECISION, inputs, plan_precision(PRECISION, inputs, BATCH_SIZE)).write()
        run.tokenizer.save(temporary / TOKENIZER_FOLDER)
        write_atomic(temporary / MANIFEST_FILE, dump_manifest(draft(run, temporary)))
