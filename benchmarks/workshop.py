"""Where engines get their model in their own form: each conversion is made once, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.converters.about import MODEL, is_converted
from benchmarks.engines import EngineSpec
from benchmarks.environments import python_of, tool_of
from benchmarks.worker import ProcessHost
from compressor.errors import ModelError
from compressor.files import new_folder


class Workshop:
    """Opens engines in processes of their own, with the model converted where they need that.

    Args:
        folder: Where converted models lie; one that is there is taken as it is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, spec: EngineSpec, threads: int) -> ProcessHost:
        """A host, as ``ProcessHost`` itself.

        Raises:
            ModelError: the model cannot be converted.
            DependencyError: the engine's environment cannot be made.
        """
        commands = _commands(spec)
        if commands:
            spec = spec.model_copy(update={"path": str(self._convert(spec, commands))})
        return ProcessHost(spec, threads, python_of(spec.engine))

    def _convert(self, spec: EngineSpec, commands: list[list[str]]) -> Path:
        folder = self._folder / f"{spec.model}-{Path(spec.path).name}-{spec.engine}-{spec.precision}"
        if not is_converted(folder):
            with new_folder(folder, force=True) as work:
                for command in commands:
                    _run(spec, [part.replace("{}", str(work)) for part in command])
        return folder


def _commands(spec: EngineSpec) -> list[list[str]]:
    """What converts a model into the folder ``{}``; nothing for engines that take it as it is."""
    model = f"{{}}/{MODEL}"

    def ours(target: str, *options: str) -> list[str]:
        return [sys.executable, "-m", f"benchmarks.converters.{target}", spec.path, "{}", *options]

    if spec.engine == "ctranslate2":
        return [ours("ctranslate2", spec.precision)]
    if spec.engine in ("optimum", "openvino"):
        form = "onnx" if spec.engine == "optimum" else "openvino"
        task = ["--task", "text2text-generation-with-past"]
        return [
            ours("checkpoint"),
            [tool_of(spec.engine, "optimum-cli"), "export", form, "--model", model, *task, model],
        ]
    if spec.engine == "marian":
        files = ["-f", f"{model}/model.npz", "-t", f"{model}/model.bin", "--gemm-type", "intgemm8"]
        packed = [[tool_of("marian", "pymarian"), "convert", *files]] if spec.precision == "int8" else []
        return [ours("marian"), *packed]
    return []


def _run(spec: EngineSpec, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelError(f"{spec.path}: cannot be converted to {spec.engine} ({said})")
