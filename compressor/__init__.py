"""Distil a large sequence-to-sequence teacher into a small ONNX student.

Each command has a function of the Python API::

    run = compressor.distill("configs/de-en.yaml", "runs/de-en")
    bundle = compressor.export(run, "bundles/de-en", precisions=("fp32", "int8"))
    print(compressor.load(bundle).generate(["Ein Hund rennt."])[0].text)

Packages are imported when a function is called. ``import compressor`` and ``load`` need no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from compressor.config import Recipe
    from compressor.runtime.generator import Generator

__version__ = "0.2.0"
__all__ = ["__version__", "distill", "export", "load", "train"]


def distill(
    recipe: Recipe | str | PathLike[str],
    out: str | PathLike[str],
    *,
    overrides: Sequence[str] = (),
    resume: bool = False,
    force: bool = False,
    progress: bool = True,
) -> Path:
    """Trains a student from a teacher according to a recipe (``compress distill``).

    Args:
        recipe: the recipe, or the path of its YAML file.
        out: folder of the run; it must not exist unless ``resume`` or ``force``.
        overrides: ``key.path=value`` settings that replace fields of a recipe file, values in YAML.
        resume: continue from the last checkpoint in ``out``.
        force: replace ``out``.
        progress: show progress bars on standard error.

    Returns:
        The run folder: recipe, best weights, tokenizer, scores on dev.

    Raises:
        CompressError: see ``compressor.errors``; no partial output remains.
    """
    from compressor.distillation.run import distill as run

    return run(_resolve(recipe, overrides), Path(out), resume=resume, force=force, progress=progress)


def train(
    recipe: Recipe | str | PathLike[str],
    out: str | PathLike[str],
    *,
    overrides: Sequence[str] = (),
    resume: bool = False,
    force: bool = False,
    progress: bool = True,
) -> Path:
    """Trains the recipe's model on references only (``compress train``), as a teacher or a baseline.

    The teacher and the monolingual sources of the recipe are ignored. Arguments, result and errors are those of
    ``distill``.
    """
    from compressor.config import references_only
    from compressor.distillation.run import distill as run

    resolved = references_only(_resolve(recipe, overrides))
    return run(resolved, Path(out), resume=resume, force=force, progress=progress)


def export(
    run: str | PathLike[str],
    out: str | PathLike[str],
    *,
    force: bool = False,
    progress: bool = True,
    **options: Any,
) -> Path:
    """Exports a run as an ONNX bundle and checks its outputs against PyTorch (``compress export``).

    Args:
        run: folder that ``distill`` or ``train`` wrote, or a Hugging Face checkpoint in Marian's or BART's layout.
        out: folder of the bundle; it must not exist unless ``force``.
        force: replace ``out``.
        progress: show a progress bar on standard error.
        **options: fields of ``compressor.exporters.config.ExportConfig``, among them ``precisions``, ``device``,
            ``dev_source``, ``dev_reference``, ``quality_budget`` and ``ungated``.

    Returns:
        The bundle folder.

    Raises:
        ConfigError: an option is unknown or wrong.
        ExportError: outputs of a graph differ from the model's, or a precision loses too much quality.
    """
    from compressor.config import validate_options
    from compressor.exporters.config import ExportConfig
    from compressor.exporters.export import export_bundle

    config = validate_options(ExportConfig, options)
    return export_bundle(Path(run), Path(out), config, force=force, progress=progress)


def load(
    bundle: str | PathLike[str],
    *,
    precision: str | None = None,
    intra_threads: int | None = None,
    inter_threads: int | None = None,
    expect_digest: str | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    num_beams: int = 1,
) -> Generator:
    """Opens a bundle for generation on ONNX Runtime, without torch.

    Args:
        bundle: folder that ``export`` wrote.
        precision: one of the bundle's precisions; default: int8, mixed or fp32; on a GPU fp16 or fp32.
        intra_threads: threads inside one operator; default: one, or what ``inter_threads`` leaves.
        inter_threads: batches of one call that run at the same time; default: one for each processor.
        expect_digest: digest that the bundle's manifest must have.
        device: device of inference.
        num_beams: of most calls; the graph of that search is opened now, the other one at its first call.

    Returns:
        A generator; ``generate(texts)`` returns one result for each text, in order. Texts may be of any length:
        translation reads them sentence by sentence and keeps their layout, summarization reads them whole.

    Raises:
        BundleError: the bundle is incomplete, altered, or of another version.
        DependencyError: ONNX Runtime is missing or too old, or cannot use the device.
    """
    from compressor.runtime.generator import Generator

    return Generator.load(
        Path(bundle),
        precision=precision,
        intra_threads=intra_threads,
        inter_threads=inter_threads,
        expect_digest=expect_digest,
        device=device,
        num_beams=num_beams,
    )


def _resolve(recipe: Recipe | str | PathLike[str], overrides: Sequence[str]) -> Recipe:
    """Returns a recipe as it is, or reads it from its file and applies the overrides. Raises ConfigError."""
    from compressor.config import Recipe, load_recipe
    from compressor.errors import ConfigError

    if isinstance(recipe, Recipe):
        if overrides:
            raise ConfigError("overrides: they change a recipe file; change the Recipe itself")
        return recipe
    return load_recipe(Path(recipe), list(overrides))
