"""Labels for several runs: a lock on the folder, corpus and teacher, and the shards that are missing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from rich.console import Console

from compressor.config import Recipe
from compressor.distillation.distributed import accelerator
from compressor.distillation.label_engines import OpenLabelEngine
from compressor.distillation.label_store import LabelStore
from compressor.distillation.labels import LabelContent, write_labels
from compressor.distillation.ray_labels import write_labels_on_ray
from compressor.distillation.run import CACHE_FOLDER
from compressor.distillation.setup import set_up
from compressor.distillation.thread_count import use_threads
from compressor.errors import OutputExistsError
from compressor.output_folder import check_replaceable, only_writer
from compressor.progress import Bar
from compressor.run_folder import LABELS_FILE


def label_corpus(
    recipe: Recipe,
    out: Path,
    *,
    num_hypotheses: int = 1,
    top_k: int = 0,
    on_references: bool = False,
    force: bool = False,
    progress: bool = True,
    label_engine: OpenLabelEngine | None = None,
    engine: Literal["local", "ray"] = "local",
) -> LabelStore:
    """Writes the labels of all training sources of a recipe, and returns them; finished shards in ``out`` stay.

    Args:
        recipe: Corpus and teacher; student and training matter little.
        out: The store.
        num_hypotheses, top_k, on_references: See ``LabelContent``.
        force: Replace ``out``.
        progress: Show a progress bar on standard error.
        label_engine: See ``run.distill``.
        engine: What writes the shards: this process, or a cluster (``ray_labels.write_labels_on_ray``).

    Raises:
        OutputExistsError: ``out`` has something else than labels, or another process writes it.
        ConfigError, DataError, ModelError, VocabularyError, StorageError: see ``set_up`` and ``write_labels``.
    """
    with only_writer(out, "these labels"):
        if force:
            check_replaceable(out)
        elif out.exists() and not (out / LABELS_FILE).exists() and (not out.is_dir() or any(out.iterdir())):
            raise OutputExistsError(f"{out}: exists already and has no labels; choose another folder")
        console = Console(stderr=True, quiet=not progress)
        use_threads(recipe.training.threads, console)
        cache = Path(recipe.data.cache) if recipe.data.cache else out.parent / CACHE_FOLDER
        with Bar(console, shown=progress) as bar:
            setup = set_up(recipe, bar, cache=cache, label=True)
        if force:
            shutil.rmtree(out, ignore_errors=True)
        assert setup.teacher is not None  # the recipe has no labels, and so a path
        content = LabelContent(num_hypotheses, top_k, on_references)
        if engine == "ray":
            return write_labels_on_ray(setup, out, console, content, label_engine)
        device = accelerator("no").device
        setup.teacher.to(device)
        setup.student.to(device)
        return write_labels(setup, out, console, label_engine, content=content)
