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
        engine = ENGINES[spec.engine]
        if commands := engine.conversion(spec):
            spec = spec.model_copy(update={"path": str(self._convert(spec, commands))})
        return ProcessHost(spec, threads, python_of(engine))

    def _convert(self, spec: EngineSpec, commands: list[list[str]]) -> Path:
        """Returns the folder of the converted model, which is made if it is not there."""
        label = spec.model.replace("/", "-")
        folder = self._folder / f"{label}-{Path(spec.path).name}-{spec.engine}-{spec.precision}"
        if not is_converted(folder):
            with new_folder(folder, force=True) as work:
                for command in commands:
                    if failure := failure_of([part.replace("{}", str(work)) for part in command]):
                        raise ModelError(f"{spec.path}: cannot be converted to {spec.engine} ({failure})")
        return folder
