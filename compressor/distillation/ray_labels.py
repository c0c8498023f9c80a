"""Labels written by a Ray cluster: its workers label shards, and this process writes them to the store.

Workers need the teacher's path, the corpus and the store stay here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.progress import Progress as ProgressBar

from compressor.config import Recipe
from compressor.distillation.distributed import accelerator
from compressor.distillation.label_engines import TorchEngine
from compressor.distillation.label_identity import teacher_differences
from compressor.distillation.label_store import LabelStore, StoreRecord, write_shard
from compressor.distillation.labels import LabelContent, Labeller, begin, shard_texts
from compressor.distillation.setup import Setup
from compressor.errors import CompressError, ConfigError, DependencyError, ModelError, install_command
from compressor.teachers.registry import load_teacher
from compressor.teachers.vocabulary_subset import in_ids_of
from compressor.text.tokenizer import Tokenizer

_TOKENS = pa.list_(pa.list_(pa.int32()))
_TEXTS = pa.schema([("shard", pa.int64()), ("sources", _TOKENS), ("references", _TOKENS)])


class ShardWorker:
    """A worker of the cluster, with the teacher in memory. It maps a table of sources to one of labels, a shard a row.

    A failure is a row of the result, as Ray would write pages about an exception.
    """

    def __init__(self, recipe: Recipe, store: StoreRecord, tokenizer: Tokenizer) -> None:
        """``tokenizer``: the student's, in whose ids sources are given and labels written."""
        self.recipe, self.store, self.tokenizer = recipe, store, tokenizer

    @cached_property
    def labeller(self) -> Labeller:
        """Loads the teacher. Raises ModelError, also where the path has another teacher here."""
        assert self.recipe.teacher is not None  # its labels are wanted
        teacher, device = in_ids_of(self.tokenizer, load_teacher(self.recipe.teacher)), accelerator("no").device
        problems = teacher_differences(self.store.teacher, teacher)
        if problems:
            raise ModelError(f"a worker of the cluster has another teacher ({'; '.join(problems)})")
        teacher.to(device)
        engine = TorchEngine(teacher, self.recipe, device)
        return Labeller(self.recipe, teacher, engine, self.store.num_hypotheses, self.store.top_k, device)

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


def write_labels_on_ray(setup: Setup, folder: Path, console: Console, content: LabelContent) -> LabelStore:
    """Writes the shards that a store lacks, on the cluster of ``RAY_ADDRESS`` or a new one here; returns the store.

    Each worker has a GPU, or a processor where the cluster has no GPU, and the teacher in PyTorch.

    Args and errors are those of ``write_labels``; besides them:

    Raises:
        ConfigError: the recipe asks for the exported teacher.
        DependencyError: the extra ray is not installed.
        ModelError: a worker cannot load the teacher, or has another one.
    """
    ray, recipe = _ray(), setup.recipe
    assert recipe.teacher is not None  # its labels are wanted
    if recipe.teacher.label_engine == "onnx":
        message = "teacher.label_engine: onnx is for {engine} local; on a cluster PyTorch writes the outputs"
        raise ConfigError(message, options=["engine"])
    missing = begin(setup, folder, content)
    store = missing.store
    if missing.shards:
        count = sum(len(store.indices(number)) for number in missing.shards)
        with ProgressBar(console=console, disable=console.quiet or not console.is_terminal) as bar, _cluster(ray):
            task = bar.add_task("labels", total=store.sources, completed=store.sources - count)
            tables = [_table(setup, store, number) for number in missing.shards]
            labelled = ray.data.from_arrow(tables).map_batches(
                ShardWorker,
                fn_constructor_args=(recipe, store, setup.tokenizer),
                batch_size=1,
                batch_format="pyarrow",
                **_workers(ray, len(tables)),
            )
            for batch in labelled.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0):
                (row,) = batch.to_pylist()
                if row["error"]:
                    raise ModelError(row["error"])
                number = row["shard"]
                write_shard(folder, store, number, row["content"], seconds=row["seconds"], engine=TorchEngine.name)
                bar.advance(task, len(store.indices(number)))
    return LabelStore.open(folder)


def _table(setup: Setup, store: StoreRecord, number: int) -> pa.Table:
    """Returns the texts of a shard as a table of one row."""
    sources, references = shard_texts(setup, store, number)
    return pa.Table.from_pylist([{"shard": number, "sources": sources, "references": references}], _TEXTS)


def _workers(ray: Any, shards: int) -> dict[str, Any]:
    """Returns the arguments of ``map_batches`` for as many workers as the cluster has GPUs, else processors."""
    resources = ray.cluster_resources()
    device = "GPU" if resources.get("GPU", 0) >= 1 else "CPU"
    count = max(1, min(shards, int(resources.get(device, 1))))
    strategy = ray.data.ActorPoolStrategy(min_size=1, max_size=count)
    return {"compute": strategy, "num_gpus": 1} if device == "GPU" else {"compute": strategy, "num_cpus": 1}


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
