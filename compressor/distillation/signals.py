"""The teacher's outputs for every training source (SeqKD, ImitKD*), written once and kept on disk in the run folder."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress as ProgressBar

from compressor.data.batching import TokenRows
from compressor.decoding.search import pad_sources
from compressor.distillation.methods import resolve
from compressor.distillation.rollout import chunks
from compressor.distillation.setup import Setup
from compressor.files import storage_errors, write_atomic
from compressor.run_folder import TEACHER_OUTPUTS_FILE
from compressor.teachers.base import Teacher


def teacher_outputs(setup: Setup, out: Path, console: Console) -> tuple[TokenRows | None, float]:
    """Best outputs by beam search, ending with EOS where the teacher finished (None if the method needs none).

    They are appended to ``teacher_outputs.jsonl`` as they are made, so that a killed run goes on where it stopped.

    Returns:
        The outputs, and the seconds that they took, in a run that was killed before, too.
    """
    recipe, teacher = setup.recipe, setup.teacher
    if teacher is None or recipe.teacher is None or not resolve(recipe.method).needs_teacher_outputs:
        return None, 0.0
    path, key = out / TEACHER_OUTPUTS_FILE, _key(setup)
    found, seconds = _read(path, key)
    missing = [index for index in range(len(setup.train.sources)) if index not in found]
    beams, clock = recipe.teacher.num_beams, time.monotonic()
    with storage_errors(path), path.open("a", encoding="utf-8") as stream, _bar(console) as bar:
        if not found:
            stream.write(json.dumps({"key": key}) + "\n")
        task = bar.add_task(f"teacher's outputs, {beams} beams", total=len(found) + len(missing), completed=len(found))
        for rows in _chunks(setup, missing, beams):
            for index, tokens in zip(rows, _best(teacher, setup, rows, beams), strict=True):
                found[index] = tokens
                source = setup.train.sources[index].tolist()
                stream.write(json.dumps({"index": index, "source": source, "tokens": tokens}) + "\n")
            seconds, clock = seconds + time.monotonic() - clock, time.monotonic()
            stream.write(json.dumps({"seconds": round(seconds, 1)}) + "\n")
            stream.flush()
            bar.advance(task, len(rows))
    return TokenRows(found[index] for index in range(len(found))), seconds


def recorded_pairs(run_dir: Path) -> Iterator[tuple[list[int], list[int]]]:
    """Token ids of the sources and outputs that lie in a run folder, none if there are none."""
    path = run_dir / TEACHER_OUTPUTS_FILE
    if path.exists():
        with path.open(encoding="utf-8") as stream:
            records = map(json.loads, stream)
            yield from ((record["source"], record["tokens"]) for record in records if "source" in record)


def estimated_seconds(setup: Setup) -> float | None:
    """What ``teacher_outputs`` will take, from one chunk in each quarter of the work; None if the method needs none."""
    recipe, teacher = setup.recipe, setup.teacher
    if teacher is None or recipe.teacher is None or not resolve(recipe.method).needs_teacher_outputs:
        return None
    beams = recipe.teacher.num_beams
    work = _chunks(setup, list(range(len(setup.train.sources))), beams)
    chosen = [work[(2 * quarter + 1) * len(work) // 8] for quarter in range(4)]
    start = time.perf_counter()
    for rows in chosen:
        _best(teacher, setup, rows, beams)
    return (time.perf_counter() - start) / len(chosen) * len(work)


def _chunks(setup: Setup, indices: list[int], beams: int) -> list[list[int]]:
    """Sources that are searched together, shortest first."""
    lengths = setup.train.sources.lengths
    budget = max(1, 4 * setup.recipe.training.batch_tokens // beams)
    return chunks(sorted(indices, key=lambda index: int(lengths[index])), lengths, budget)


def _best(teacher: Teacher, setup: Setup, rows: list[int], beams: int) -> list[list[int]]:
    sources = [setup.train.sources[index].tolist() for index in rows]
    device = next(setup.student.parameters()).device
    source, mask = pad_sources(sources, setup.generation.pad_id, device)
    with torch.no_grad():
        found = [best[0].tokens for best in teacher.generate(source, mask, beams)]
    limit = setup.recipe.data.max_target_tokens
    return [tokens if len(tokens) <= limit else [*tokens[: limit - 1], setup.generation.eos_id] for tokens in found]


def _key(setup: Setup) -> str:
    """Digest of what the outputs depend on; where data and teacher lie does not matter."""
    settings = setup.recipe.model_dump_json(
        include={"data", "teacher"}, exclude={"data": {"root"}, "teacher": {"path"}}
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
        except ValueError:  # the line that a kill cut short: what is appended must not be glued to it
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
