"""Labels: a teacher's outputs and distributions for all training sources, written to a store before training.

A run writes them to its own folder, unless ``compress label`` has written them for several runs.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress as ProgressBar

from compressor.config import Recipe
from compressor.decoding.search import Hypothesis
from compressor.distillation.evaluation import lost_mass, vocabulary_record
from compressor.distillation.label_engines import LabelEngine, OpenLabelEngine, choose_engine, n_best, sampled_outputs
from compressor.distillation.label_identity import differences, hypotheses_read, store_record
from compressor.distillation.label_shards import ShardArrays, TopK
from compressor.distillation.label_store import (
    LabelStore,
    ShardRecord,
    StoreRecord,
    create_store,
    read_shard_record,
    read_store_record,
    write_shard,
)
from compressor.distillation.setup import Setup
from compressor.distillation.top_k_labels import top_log_probabilities
from compressor.errors import ConfigError, DataError
from compressor.run_folder import LABEL_ENGINE_FOLDER, LABELS_FILE, TOKENIZER_FOLDER
from compressor.teachers.base import Teacher

SHARD_SOURCES = 4096
"""Sources of a shard: at most the work on these is lost when the process is killed."""


@dataclass(frozen=True)
class Labeller:
    """Makes the arrays of a shard."""

    recipe: Recipe
    teacher: Teacher
    engine: LabelEngine
    store: StoreRecord
    """What labels have."""
    tokens: list[int]
    """What distributions are over."""
    device: torch.device

    def label(
        self,
        sources: Sequence[list[int]],
        references: Sequence[list[int]] | None = None,
        advance: Callable[[int], object] = lambda done: None,
    ) -> ShardArrays:
        """Returns the labels of sources, given as token ids.

        Args:
            sources: The sources of the shard.
            references: Their references, where these are in the place of outputs.
            advance: Called with the number of sources that were just labelled.

        Raises:
            ModelError: the teacher's distributions have NaN.
        """
        eos_id, count, top_k = self.teacher.generation.eos_id, self.store.num_hypotheses, self.store.top_k
        if references is None:
            hypotheses = n_best(self.engine, self.recipe, eos_id, sources, count, advance)
        else:
            hypotheses = [[Hypothesis(math.nan, reference)] for reference in references]
        arrays = _arrays(sources, hypotheses, count)
        best = [outputs[0].tokens for outputs in hypotheses]
        if not top_k:
            self._distributions(sources[:1], best[:1], 1)  # a search does not see NaN
            return arrays
        positions, top = self._distributions(sources, best, top_k)
        if references is not None:
            advance(len(sources))
        return arrays._replace(positions=positions, **top._asdict())

    def _distributions(
        self, sources: Sequence[list[int]], outputs: Sequence[list[int]], k: int
    ) -> tuple[NDArray[np.int32], TopK]:
        return top_log_probabilities(self.teacher, sources, outputs, k, self.tokens, self.device)


class LabelContent(NamedTuple):
    """What labels have of each source."""

    num_hypotheses: int = 1
    """Outputs."""
    top_k: int = 0
    """Log-probabilities at each position of the best output; 0: none."""
    on_references: bool = False
    """References are in the place of outputs."""


@dataclass(frozen=True)
class MissingShards:
    """The shards that a store lacks."""

    store: StoreRecord
    finished: dict[int, ShardRecord]
    shards: list[int]

    @property
    def sources(self) -> int:
        """Sources of the missing shards."""
        return sum(len(self.store.indices(number)) for number in self.shards)

    @property
    def used(self) -> dict[str, Any]:
        """Description of the engine that wrote the last finished shard; empty where there is none."""
        return self.finished[max(self.finished)].written_by if self.finished else {}


def needs_labels(setup: Setup) -> bool:
    """Returns whether the method reads outputs of the teacher that are to be written first."""
    reads = setup.recipe.method.row.reads_teacher_outputs
    return setup.teacher is not None and setup.label_store is None and reads


def write_labels(
    setup: Setup,
    folder: Path,
    console: Console,
    open_exported: OpenLabelEngine | None = None,
    *,
    content: LabelContent | None = None,
    replace: bool = False,
) -> LabelStore:
    """Writes the shards that a store lacks, and returns the store.

    Args:
        setup: Corpus and teacher.
        folder: The store, which may be there: finished shards of the same labels stay, damaged ones are written anew.
        console: Shows progress, and what engine was chosen.
        open_exported: See ``choose_engine``.
        content: What is written; None: the outputs that the recipe's method reads.
        replace: Delete a store of other labels, in place of an error.

    Raises:
        ConfigError: the search has fewer beams than outputs are wanted, or the teacher fewer tokens than ``top_k``.
        DataError: the store has other labels; names what differs.
        ModelError: the teacher's distributions have NaN.
        StorageError: the disk is full; finished shards stay.
    """
    content = content or LabelContent(hypotheses_read(setup.recipe))
    missing = begin(setup, folder, content, replace=replace)
    store, finished, temporary = missing.store, missing.finished, folder / LABEL_ENGINE_FOLDER
    if not missing.shards:
        return LabelStore(folder, store, [finished[number] for number in store.shards])
    with labelling_bar(console) as bar:
        start = time.monotonic()
        outputs = f"teacher's outputs, {store.settings['teacher.num_beams']} beams"
        shown = "teacher's distributions" if content.on_references else outputs
        task = bar.add_task(shown, total=store.sources, completed=store.sources - missing.sources)
        if content.on_references:  # nothing is searched
            open_exported = None
        engine, written_by = choose_engine(setup, missing.used, missing.sources, temporary, open_exported, console)
        assert setup.teacher is not None  # there is something to write
        device = next(setup.student.parameters()).device
        labeller = Labeller(setup.recipe, setup.teacher, engine, store, written_tokens(setup), device)
        for number in missing.shards:
            arrays = labeller.label(*shard_texts(setup, store, number), lambda done: bar.advance(task, done))
            seconds = time.monotonic() - start
            write_shard(folder, store, number, arrays.to_bytes(), seconds=seconds, **written_by)
            start = time.monotonic()
    shutil.rmtree(temporary, ignore_errors=True)
    return LabelStore.open(folder)


def written_tokens(setup: Setup) -> list[int]:
    """Returns the tokens that the student may write, which distributions are over."""
    return setup.generation.allowed_ids(setup.student.config.vocab_size)


def shard_texts(setup: Setup, store: StoreRecord, number: int) -> tuple[list[list[int]], list[list[int]] | None]:
    """Returns the token ids of a shard's sources, and of their references if these are in the place of outputs."""
    indices, train = store.indices(number), setup.train
    sources = [train.sources[index].tolist() for index in indices]
    return sources, [train.targets[index].tolist() for index in indices] if store.references else None


def begin(setup: Setup, folder: Path, content: LabelContent, *, replace: bool = False) -> MissingShards:
    """Returns what a store lacks; it is made if it is not there. Arguments and errors as in ``write_labels``."""
    store = _begin(folder, _wanted(setup, content), replace=replace)
    finished = dict(_finished(folder, store))
    missing = [number for number in store.shards if number not in finished]
    if missing:
        setup.tokenizer.save(folder / TOKENIZER_FOLDER)
    return MissingShards(store, finished, missing)


def estimated_seconds(setup: Setup, open_exported: OpenLabelEngine | None = None) -> float | None:
    """Returns the time to write the teacher's outputs, from those of a sample; None if none are to be written."""
    if not needs_labels(setup):
        return None
    with tempfile.TemporaryDirectory() as folder:
        quiet = Console(quiet=True)
        engine, _ = choose_engine(setup, {}, setup.examples, Path(folder) / LABEL_ENGINE_FOLDER, open_exported, quiet)
        start = time.perf_counter()
        count = len(sampled_outputs(setup, engine, hypotheses_read(setup.recipe)))
        return (time.perf_counter() - start) / count * setup.examples


def _arrays(
    sources: Sequence[list[int]], hypotheses: Sequence[Sequence[Hypothesis]], num_hypotheses: int
) -> ShardArrays:
    """Returns the arrays of sources and outputs."""
    lengths = np.zeros((len(sources), num_hypotheses), np.int32)
    scores = np.full((len(sources), num_hypotheses), np.nan, np.float32)
    for row, outputs in enumerate(hypotheses):
        lengths[row, : len(outputs)] = [len(one.tokens) for one in outputs]
        scores[row, : len(outputs)] = [one.score for one in outputs]
    return ShardArrays(
        sources=np.concatenate([np.asarray(source, np.int32) for source in sources]),
        source_lengths=np.array([len(source) for source in sources], np.int32),
        tokens=np.concatenate([np.asarray(one.tokens, np.int32) for outputs in hypotheses for one in outputs]),
        lengths=lengths,
        scores=scores,
    )


def _wanted(setup: Setup, content: LabelContent) -> StoreRecord:
    """Returns the record of the labels of a run. Raises ConfigError."""
    config, teacher = setup.recipe.teacher, setup.teacher
    assert config is not None and teacher is not None  # there is something to write
    num_hypotheses, top_k, on_references = content
    if num_hypotheses > config.num_beams:
        message = f"{{num_hypotheses}} {num_hypotheses}: a search with {config.num_beams} beams has fewer outputs; "
        raise ConfigError(f"{message}raise teacher.num_beams", options=["num_hypotheses"])
    if on_references and (num_hypotheses > 1 or not top_k):
        message = "on references there are distributions alone: give {top_k}, and no {num_hypotheses}"
        raise ConfigError(message, options=["top_k", "num_hypotheses"])
    if on_references and not all(setup.train.targets.lengths):
        raise ConfigError("data.mono: its sources have no references; leave it out, or label the teacher's outputs")
    tokens = written_tokens(setup)
    if top_k > len(tokens):
        raise ConfigError(f"{{top_k}} {top_k}: the student can write {len(tokens)} tokens", options=["top_k"])
    references = [setup.tokenizer.encode_target(example.target or "") for example in setup.dev]
    return store_record(
        setup.recipe,
        setup.train.sources,
        setup.tokenizer,
        teacher,
        num_hypotheses=num_hypotheses,
        top_k=top_k,
        tokens=tokens,
        references=setup.train.targets if on_references else None,
        shard_sources=SHARD_SOURCES,
        vocabulary=vocabulary_record(setup, lost_mass(setup, references)),
    )


def _begin(folder: Path, wanted: StoreRecord, *, replace: bool) -> StoreRecord:
    """Returns the record of the store in a folder, which is made if it is not there. Raises DataError."""
    if (folder / LABELS_FILE).exists():
        try:
            stored = read_store_record(folder)
            problems = differences(stored, wanted)
        except DataError as error:
            problems = [str(error)]
        if not problems:
            return stored
        if not replace:
            message = f"{folder}: has other labels ({'; '.join(problems)}); choose another folder, or replace it with "
            raise DataError(f"{message}{{force}}", options={"force": True})
        shutil.rmtree(folder)
    create_store(folder, wanted)
    return wanted


def _finished(folder: Path, store: StoreRecord) -> Iterator[tuple[int, ShardRecord]]:
    """Yields the shards that are whole."""
    for number in store.shards:
        try:
            yield number, read_shard_record(folder, store, number)
        except DataError:  # missing, cut short or altered: it is written anew
            continue


def labelling_bar(console: Console) -> ProgressBar:
    """Returns a bar of sources, which is shown on a terminal."""
    return ProgressBar(console=console, disable=console.quiet or not console.is_terminal)
