"""Converts models to the engines' own formats, each once and in a process of its own, and opens engines on them."""

from __future__ import annotations

from pathlib import Path

from benchmarks.engines.base import EngineSpec
from benchmarks.engines.converted_model import is_converted
from benchmarks.engines.environments import failure_of, python_of
from benchmarks.engines.process import ProcessHost
from benchmarks.engines.registry import ENGINES
from compressor.errors import ModelError
from compressor.output_folder import new_folder


class ConvertingConnector:
    """Opens engines in processes of their own; a model is converted first where its engine needs that.

    Args:
        folder: Where converted models lie; one that is there already is used as it is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, spec: EngineSpec, threads: int) -> ProcessHost:
        """A host of the engine.

        Raises:
            ModelError: the model cannot be converted.
            DependencyError: the engine's environment cannot be made.
        """
        spec = spec.model_copy(update={"path": str(convert(spec, self._folder))})
        return ProcessHost(spec, threads, python_of(ENGINES[spec.engine]))


def convert(spec: EngineSpec, parent: Path) -> Path:
    """Returns the folder of a model in its engine's own format: in ``parent``, made if it is not there.

    It is the model's own folder where the engine opens that. Raises ModelError if the model cannot be converted.
    """
    commands = ENGINES[spec.engine].conversion(spec)
    if not commands:
        return Path(spec.path)
    label = spec.model.replace("/", "-")
    folder = parent / f"{label}-{Path(spec.path).name}-{spec.engine}-{spec.precision}"
    if not is_converted(folder):
        with new_folder(folder, force=True) as work:
            for command in commands:
                if failure := failure_of([part.replace("{}", str(work)) for part in command]):
                    raise ModelError(f"{spec.path}: cannot be converted to {spec.engine} ({failure})")
    return folder
