"""Labels written by a Ray cluster: its workers label shards, and this process writes them to the store.

Workers need the teacher's path; the corpus and the store stay here. The exported teacher is made here and sent to them.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console

from compressor.config import Recipe
from compressor.distillation.distributed import accelerator
from compressor.distillation.label_engines import LabelEngine, OpenLabelEngine, TorchEngine, choose_engine
from compressor.distillation.label_identity import teacher_differences
from compressor.distillation.label_store import LabelStore, StoreRecord, write_shard
from compressor.distillation.labels import (
    LabelContent,
    Labeller,
    begin,
    labelling_bar,
    shard_texts,
    written_tokens,
)
from compressor.distillation.setup import Setup
from compressor.errors import CompressError, ConfigError, DependencyError, ModelError, install_command
from compressor.run_folder import LABEL_ENGINE_FOLDER
from compressor.teachers.registry import load_teacher
from compressor.teachers.vocabulary_subset import in_ids_of
from compressor.text.tokenizer import Tokenizer

_TOKENS = pa.list_(pa.list_(pa.int32()))
_TEXTS = pa.schema([("shard", pa.int64()), ("sources", _TOKENS), ("references", _TOKENS)])


class ShardWorker:
    """A worker of the cluster, with the teacher in memory. It maps a table of sources to one of labels, a shard a row.

    A failure is a row of the result, as Ray would write pages about an exception.
    """

    def __init__(
        self,
        recipe: Recipe,
        store: StoreRecord,
        tokenizer: Tokenizer,
        tokens: list[int],
        engine: LabelEngine | None = None,
    ) -> None:
        """Takes what it needs from the process that has the corpus.

        Args:
            recipe: The recipe.
            store: The labels that are wanted.
            tokenizer: The student's, in whose ids sources are given and labels written.
            tokens: What distributions are over.
            engine: Writes the outputs; None: the teacher in PyTorch, which the worker loads in any case.
        """
        self.recipe, self.store, self.tokenizer, self.tokens, self.engine = recipe, store, tokenizer, tokens, engine

    @cached_property
    def labeller(self) -> Labeller:
        """Loads the teacher. Raises ModelError, also where the path has another teacher here."""
        assert self.recipe.teacher is not None  # its labels are wanted
        teacher, device = in_ids_of(self.tokenizer, load_teacher(self.recipe.teacher)), accelerator("no").device
        problems = teacher_differences(self.store.teacher, teacher)
        if problems:
            raise ModelError(f"a worker of the cluster has another teacher ({'; '.join(problems)})")
        teacher.to(device)
        engine = self.engine or TorchEngine(teacher, self.recipe, device)
        return Labeller(self.recipe, teacher, engine, self.store, self.tokens, device)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Returns the table [shard, content, seconds, error] for a table [shard, sources, references]."""
        return pa.Table.from_pylist([self._label(row) for row in table.to_pylist()])

    def _label(self, row: dict[str, Any]) -> dict[str, Any]:
        start = time.monotonic()
        content, error = b"", ""
        try:
            content = self.labeller.label(row["sources"], row["references"]).to_bytes()
        except CompressError as problem:
            error = str(problem)
        return {"shard": row["shard"], "content": content, "seconds": time.monotonic() - start, "error": error}


def write_labels_on_ray(
    setup: Setup, folder: Path, console: Console, content: LabelContent, open_exported: OpenLabelEngine | None = None
) -> LabelStore:
    """Writes the shards that a store lacks, on the cluster of ``RAY_ADDRESS`` or a new one here; returns the store.

    Each worker has a GPU and the teacher in PyTorch, or, where the cluster has no GPU, a processor and the engine that
    one process would choose (``choose_engine``).

    Args and errors are those of ``write_labels``; besides them:

    Raises:
        ConfigError: the recipe asks for the exported teacher on a cluster with GPUs.
        DependencyError: the extra ray is not installed.
        ModelError: a worker cannot load the teacher, or has another one.
    """
    ray, recipe = _ray(), setup.recipe
    assert recipe.teacher is not None  # its labels are wanted
    with _cluster(ray):
        on_gpus = ray.cluster_resources().get("GPU", 0) >= 1
        if on_gpus and recipe.teacher.label_engine == "onnx":
            message = "teacher.label_engine: onnx is for processors, and the cluster has GPUs: PyTorch writes there"
            raise ConfigError(message)
        missing = begin(setup, folder, content)
        store = missing.store
        if missing.shards:
            exported = None if on_gpus or content.on_references else open_exported
            temporary = folder / LABEL_ENGINE_FOLDER
            engine, written_by = choose_engine(setup, missing.used, missing.sources, temporary, exported, console)
            sent = None if isinstance(engine, TorchEngine) else engine
            # the object store takes the texts, and writes to disk what does not fit into memory
            tables = [ray.put(_table(setup, store, number)) for number in missing.shards]
            labelled = ray.data.from_arrow_refs(tables).map_batches(
                ShardWorker,
                fn_constructor_args=(recipe, store, setup.tokenizer, written_tokens(setup), sent),
                batch_size=1,
                batch_format="pyarrow",
                **_workers(ray, len(tables), on_gpus=on_gpus),
            )
            with labelling_bar(console) as bar:
                task = bar.add_task("labels", total=store.sources, completed=store.sources - missing.sources)
                for batch in labelled.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0):
                    (row,) = batch.to_pylist()
                    if row["error"]:
                        raise ModelError(row["error"])
                    number = row["shard"]
                    write_shard(folder, store, number, row["content"], seconds=row["seconds"], **written_by)
                    bar.advance(task, len(store.indices(number)))
            shutil.rmtree(temporary, ignore_errors=True)
    return LabelStore.open(folder)


def _table(setup: Setup, store: StoreRecord, number: int) -> pa.Table:
    """Returns the texts of a shard as a table of one row."""
    sources, references = shard_texts(setup, store, number)
    return pa.Table.from_pylist([{"shard": number, "sources": sources, "references": references}], _TEXTS)


def _workers(ray: Any, shards: int, *, on_gpus: bool) -> dict[str, Any]:
    """Returns the arguments of ``map_batches`` for as many workers as the cluster has GPUs, else processors."""
    count = max(1, min(shards, int(ray.cluster_resources().get("GPU" if on_gpus else "CPU", 1))))
    strategy = ray.data.ActorPoolStrategy(min_size=1, max_size=count)
    return {"compute": strategy, "num_gpus" if on_gpus else "num_cpus": 1}


@contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """Connects to the cluster while the block runs, unless this program has done so."""
    connected: bool = ray.is_initialized()
    if not connected:
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
    ray.data.DataContext.get_current().enable_progress_bars = False  # there is one already
    try:
        yield
    finally:
        if not connected:
            ray.shutdown()


def _ray() -> Any:
    """Returns the module ``ray``, with ``ray.data``. Raises DependencyError."""
    try:
        import ray.data
    except ImportError:
        raise DependencyError(f"Ray Data is not installed: {install_command('ray')}") from None
    return ray
