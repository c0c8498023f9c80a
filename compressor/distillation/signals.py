"""Signals: what training reads of the teacher, from the live model or from the run folder.

Shapes: batch, source_len, context_len, positions = those that carry loss, columns = tokens that may be generated.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch
from rich.console import Console
from rich.progress import Progress as ProgressBar
from torch import Tensor

from compressor.batching import bucket_by_length
from compressor.data.batching import Batch, TokenRows
from compressor.decoding.search import pad_sources
from compressor.distillation.contexts import Contexts, TokenIds
from compressor.distillation.methods import resolve
from compressor.distillation.setup import Setup
from compressor.files import storage_errors, write_atomic
from compressor.run_folder import TEACHER_OUTPUTS_FILE
from compressor.teachers.base import Teacher


class Signal(Protocol):
    """What context policies and targets read of the teacher."""

    def outputs(self, indices: Sequence[int]) -> list[TokenIds]:
        """Returns the teacher's best output of each training source, cut at ``data.max_target_tokens``."""

    def logits(self, batch: Batch, contexts: Contexts, rows: Tensor, tokens: Tensor) -> Tensor:
        """Returns next-token logits [positions of the rows, columns], without gradient.

        Args:
            batch: the sources.
            contexts: the prefixes.
            rows: bool [batch], the rows wanted.
            tokens: int64 [columns], the tokens wanted.
        """


class LiveTeacher:
    """Signal of the model in memory."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def outputs(self, indices: Sequence[int]) -> list[TokenIds]:
        """See Signal."""
        setup = self.setup
        assert setup.teacher is not None and setup.recipe.teacher is not None  # the recipe's validation
        return list(_best_outputs(setup.teacher, setup, list(indices), setup.recipe.teacher.num_beams))

    def logits(self, batch: Batch, contexts: Contexts, rows: Tensor, tokens: Tensor) -> Tensor:
        """See Signal."""
        teacher = self.setup.teacher
        assert teacher is not None  # the recipe's validation
        source, source_mask = batch.source[rows], batch.source_mask[rows]
        return teacher.logits(source, source_mask, contexts.tokens[rows], contexts.loss_mask[rows], tokens)


class RecordedOutputs(LiveTeacher):
    """Signal whose outputs were written before training; logits are those of the model in memory."""

    def __init__(self, setup: Setup, rows: TokenRows) -> None:
        super().__init__(setup)
        self.rows = rows

    def outputs(self, indices: Sequence[int]) -> list[TokenIds]:
        """See Signal."""
        return [self.rows[index] for index in indices]


def prepare_signal(setup: Setup, out: Path, console: Console) -> tuple[Signal, float]:
    """Writes what the method reads of the teacher beforehand to the run folder ``out``.

    Outputs are appended to ``teacher_outputs.jsonl`` as they are made, so that a killed run continues where it stopped.

    Returns:
        The signal, and the seconds that writing took, a killed run's included.
    """
    recipe, teacher = setup.recipe, setup.teacher
    if teacher is None or recipe.teacher is None or not resolve(recipe.method).reads_teacher_outputs:
        return LiveTeacher(setup), 0.0
    path, key = out / TEACHER_OUTPUTS_FILE, _key(setup)
    outputs, seconds = _read(path, key)
    missing = [index for index in range(len(setup.train.sources)) if index not in outputs]
    beams, clock = recipe.teacher.num_beams, time.monotonic()
    with storage_errors(path), path.open("a", encoding="utf-8") as stream, _bar(console) as bar:
        if not outputs:
            stream.write(json.dumps({"key": key}) + "\n")
        total = len(outputs) + len(missing)
        task = bar.add_task(f"teacher's outputs, {beams} beams", total=total, completed=len(outputs))
        for rows in _chunks(setup, missing, beams):
            for index, tokens in zip(rows, _best_outputs(teacher, setup, rows, beams), strict=True):
                outputs[index] = tokens
                source = setup.train.sources[index].tolist()
                stream.write(json.dumps({"index": index, "source": source, "tokens": tokens}) + "\n")
            seconds, clock = seconds + time.monotonic() - clock, time.monotonic()
            stream.write(json.dumps({"seconds": round(seconds, 1)}) + "\n")
            stream.flush()
            bar.advance(task, len(rows))
    return RecordedOutputs(setup, TokenRows(outputs[index] for index in range(len(outputs)))), seconds


def recorded_pairs(run_dir: Path) -> Iterator[tuple[list[int], list[int]]]:
    """Yields token ids of the sources and teacher's outputs in a run folder; nothing where there are none."""
    path = run_dir / TEACHER_OUTPUTS_FILE
    if path.exists():
        with path.open(encoding="utf-8") as stream:
            records = map(json.loads, stream)
            yield from ((record["source"], record["tokens"]) for record in records if "source" in record)


def estimated_seconds(setup: Setup) -> float | None:
    """Returns the time to write the teacher's outputs, from four chunks of them; None if the method reads none."""
    recipe, teacher = setup.recipe, setup.teacher
    if teacher is None or recipe.teacher is None or not resolve(recipe.method).reads_teacher_outputs:
        return None
    beams = recipe.teacher.num_beams
    work = _chunks(setup, list(range(len(setup.train.sources))), beams)
    chosen = [work[(2 * quarter + 1) * len(work) // 8] for quarter in range(4)]
    start = time.perf_counter()
    for rows in chosen:
        _best_outputs(teacher, setup, rows, beams)
    return (time.perf_counter() - start) / len(chosen) * len(work)


def _chunks(setup: Setup, indices: list[int], beams: int) -> list[list[int]]:
    """Returns the sources that are searched together, shortest first."""
    lengths = setup.train.sources.lengths
    budget = max(1, 4 * setup.recipe.training.batch_tokens // beams)
    buckets = bucket_by_length([int(lengths[index]) for index in indices], budget)
    return [[indices[position] for position in bucket] for bucket in reversed(buckets)]


def _best_outputs(teacher: Teacher, setup: Setup, rows: list[int], beams: int) -> list[list[int]]:
    sources = [setup.train.sources[index].tolist() for index in rows]
    device = next(setup.student.parameters()).device
    source, mask = pad_sources(sources, setup.generation.pad_id, device)
    with torch.no_grad():
        outputs = [hypotheses[0].tokens for hypotheses in teacher.generate(source, mask, beams)]
    limit = setup.recipe.data.max_target_tokens
    return [tokens if len(tokens) <= limit else [*tokens[: limit - 1], setup.generation.eos_id] for tokens in outputs]


def _key(setup: Setup) -> str:
    """Returns a digest of what the outputs depend on: data, teacher and settings, but not their paths."""
    settings = setup.recipe.model_dump_json(
        include={"data", "teacher"}, exclude={"data": {"root", "cache"}, "teacher": {"path"}}
    )
    digest = hashlib.sha256(settings.encode())
    if setup.teacher is not None:
        digest.update(f"{setup.teacher.name} {setup.teacher.parameters}".encode())
    for index in range(len(setup.train.sources)):
        digest.update(setup.train.sources[index].tobytes())
    return digest.hexdigest()


def _read(path: Path, key: str) -> tuple[dict[int, list[int]], float]:
    if not path.exists():
        return {}, 0.0
    records, lines = [], path.read_text(encoding="utf-8").splitlines(keepends=True)
    for line in lines:
        try:
            records.append(json.loads(line))
        except ValueError:  # cut short by a kill; it is removed, or the next line would be appended to it
            break
    if len(records) < len(lines):
        write_atomic(path, "".join(lines[: len(records)]))
    if not records or records[0].get("key") != key:
        path.unlink()
        return {}, 0.0
    seconds = max((record["seconds"] for record in records if "seconds" in record), default=0.0)
    return {record["index"]: record["tokens"] for record in records if "index" in record}, seconds


def _bar(console: Console) -> ProgressBar:
    return ProgressBar(console=console, disable=console.quiet or not console.is_terminal)
