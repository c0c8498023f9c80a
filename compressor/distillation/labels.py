"""Labels: the teacher's outputs on all training sources, written to the run folder before training.

An engine writes them: the teacher in PyTorch, or the teacher exported to int8, which is faster on a processor. The
exported one is ``compressor.exporters.label_engine``; whoever calls ``distill`` hands it in, as exporters come after
distillation in the order of imports.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.progress import Progress as ProgressBar

from compressor.batching import bucket_by_length
from compressor.config import LabelEngineName
from compressor.decoding.search import pad_sources
from compressor.distillation.methods import resolve
from compressor.distillation.setup import Setup
from compressor.errors import DependencyError, ExportError
from compressor.files import storage_errors, write_atomic
from compressor.run_folder import LABEL_ENGINE_FOLDER, TEACHER_OUTPUTS_FILE, LabelRecord
from compressor.teachers.base import Teacher
from compressor.text.metrics import score

COMPARED = 200
"""Sources on which the exported teacher is compared with PyTorch."""
LEAST_BLEU = 50.0
"""BLEU of the exported teacher against PyTorch below which its outputs are not used: int8 has damaged it."""
WORTH_EXPORTING = 4_000
"""Fewest outputs for which ``auto`` exports the teacher.

Measured with 6+6 layers of d 256 and five beams on one core: the export takes 42 s, and an output 6 ms in place of 25.
"""


class LabelEngine(Protocol):
    """Writes the teacher's n-best outputs."""

    name: LabelEngineName
    chunk_tokens: int
    """Padded source tokens of a call."""

    def outputs(self, sources: Sequence[list[int]], num_beams: int, num_return: int = 1) -> list[list[list[int]]]:
        """Returns the ``num_return`` best outputs of each source, best first, as token ids."""


OpenLabelEngine = Callable[[Setup, Path], LabelEngine]
"""Exports the teacher into a folder, unless it is there, and opens it; raises ExportError or DependencyError."""


class TorchEngine:
    """The teacher in PyTorch."""

    name: LabelEngineName = "torch"

    def __init__(self, setup: Setup) -> None:
        assert setup.teacher is not None and setup.recipe.teacher is not None  # the recipe's validation
        self.teacher, self.setup = setup.teacher, setup
        self.chunk_tokens = max(1, 4 * setup.recipe.training.batch_tokens // setup.recipe.teacher.num_beams)

    def outputs(self, sources: Sequence[list[int]], num_beams: int, num_return: int = 1) -> list[list[list[int]]]:
        """See LabelEngine."""
        return best_outputs(self.teacher, self.setup, sources, num_beams, num_return)


@dataclass
class Labels:
    """The teacher's outputs in a run folder."""

    outputs: dict[int, list[list[int]]] = field(default_factory=dict)
    """By the source's index: its n-best list, best first."""
    seconds: float = 0.0
    """Time that they took."""
    engine: dict[str, Any] = field(default_factory=dict)
    """What wrote them: fields of ``LabelRecord``."""

    @property
    def record(self) -> LabelRecord:
        """The record for ``run.json``."""
        rate = round(len(self.outputs) / self.seconds, 1) if self.seconds else None
        return LabelRecord.model_validate({"outputs": len(self.outputs), "outputs_per_second": rate, **self.engine})


def needs_labels(setup: Setup) -> bool:
    """Returns whether the method reads the teacher's outputs."""
    return setup.teacher is not None and resolve(setup.recipe.method).reads_teacher_outputs


def write_labels(setup: Setup, out: Path, console: Console, open_exported: OpenLabelEngine | None = None) -> Labels:
    """Writes the outputs that the run folder ``out`` lacks, and returns all.

    They are appended to ``teacher_outputs.jsonl`` as they are made, so that a killed run continues where it stopped.
    """
    assert setup.recipe.teacher is not None  # the recipe's validation
    path, key = out / TEACHER_OUTPUTS_FILE, _key(setup)
    labels = _read(path, key)
    sources, beams = setup.train.sources, setup.recipe.teacher.num_beams
    missing = [index for index in range(len(sources)) if index not in labels.outputs]
    if not missing:
        return labels
    clock, is_new = time.monotonic(), not path.exists()
    with storage_errors(path), path.open("a", encoding="utf-8") as stream, _bar(console) as bar:
        if is_new:
            stream.write(json.dumps({"key": key}) + "\n")
        folder = out / LABEL_ENGINE_FOLDER / key[:16]
        engine, described = _choose(setup, labels.engine, len(missing), folder, open_exported, console)
        if described != labels.engine:
            stream.write(json.dumps(described) + "\n")
            labels.engine = described
        task = bar.add_task(f"teacher's outputs, {beams} beams", total=len(sources), completed=len(labels.outputs))
        for rows in _chunks(setup, missing, engine.chunk_tokens):
            for index, (best, *more) in zip(rows, _outputs(engine, setup, rows), strict=True):
                labels.outputs[index] = [best, *more]
                line = {"index": index, "source": sources[index].tolist(), "tokens": best}
                stream.write(json.dumps(line | ({"more": more} if more else {})) + "\n")
            labels.seconds, clock = labels.seconds + time.monotonic() - clock, time.monotonic()
            stream.write(json.dumps({"seconds": round(labels.seconds, 1)}) + "\n")
            stream.flush()
            bar.advance(task, len(rows))
    shutil.rmtree(out / LABEL_ENGINE_FOLDER, ignore_errors=True)
    return labels


def recorded_pairs(run_dir: Path) -> Iterator[tuple[list[int], list[int]]]:
    """Yields token ids of the sources and teacher's outputs in a run folder; nothing where there are none."""
    path = run_dir / TEACHER_OUTPUTS_FILE
    if path.exists():
        with path.open(encoding="utf-8") as stream:
            records = map(json.loads, stream)
            yield from ((record["source"], record["tokens"]) for record in records if "source" in record)


def estimated_seconds(setup: Setup, open_exported: OpenLabelEngine | None = None) -> float | None:
    """Returns the time to write the teacher's outputs, from those of a sample; None if the method reads none."""
    if not needs_labels(setup):
        return None
    with tempfile.TemporaryDirectory() as folder:
        quiet = Console(quiet=True)
        engine, _ = _choose(setup, {}, setup.examples, Path(folder) / LABEL_ENGINE_FOLDER, open_exported, quiet)
        sample = _sample(setup)
        start = time.perf_counter()
        for rows in _chunks(setup, sample, engine.chunk_tokens):
            _outputs(engine, setup, rows)
        return (time.perf_counter() - start) / len(sample) * setup.examples


def best_outputs(
    teacher: Teacher, setup: Setup, sources: Sequence[list[int]], beams: int, count: int = 1
) -> list[list[list[int]]]:
    """Returns the teacher's ``count`` best outputs of each source, best first, by PyTorch."""
    device = next(setup.student.parameters()).device
    source, mask = pad_sources(sources, setup.generation.pad_id, device)
    with torch.no_grad():
        n_best = teacher.generate(source, mask, beams, count)
    return [[hypothesis.tokens for hypothesis in hypotheses[:count]] for hypotheses in n_best]


def cut_outputs(setup: Setup, outputs: Sequence[list[int]]) -> list[list[int]]:
    """Returns outputs cut at ``data.max_target_tokens``; the last token of a cut one is EOS."""
    limit = setup.recipe.data.max_target_tokens
    return [tokens if len(tokens) <= limit else [*tokens[: limit - 1], setup.generation.eos_id] for tokens in outputs]


def _choose(
    setup: Setup,
    used: dict[str, Any],
    missing: int,
    folder: Path,
    open_exported: OpenLabelEngine | None,
    console: Console,
) -> tuple[LabelEngine, dict[str, Any]]:
    """Returns the engine for the missing outputs, and its description.

    Args:
        setup: The run.
        used: Description of the engine that wrote the outputs that are there; ``auto`` goes on with it.
        missing: Number of missing outputs.
        folder: Where the exported teacher is put.
        open_exported: Opens it; None: there is only PyTorch.
        console: Shows what was chosen, and why.
    """
    assert setup.recipe.teacher is not None
    wanted: str = setup.recipe.teacher.label_engine
    if wanted == "auto":
        wanted = used.get("engine") or ("onnx" if missing >= WORTH_EXPORTING else "torch")
    in_torch = TorchEngine(setup)
    if wanted == "torch" or open_exported is None:
        return in_torch, {"engine": in_torch.name}
    try:
        engine = open_exported(setup, folder)
        if used.get("engine") == engine.name:
            return engine, used
        return engine, _compare(setup, engine, in_torch, console)
    except (ExportError, DependencyError) as error:
        console.print(f"the teacher's outputs are written by PyTorch: {error}", highlight=False, soft_wrap=True)
        return in_torch, {"engine": in_torch.name}


def _compare(setup: Setup, engine: LabelEngine, in_torch: LabelEngine, console: Console) -> dict[str, Any]:
    """Returns the description of an engine with its BLEU against PyTorch. Raises ExportError if that is too low."""
    indices, texts, rates = _sample(setup), {}, {}
    for one in (engine, in_torch):
        outputs: dict[int, list[list[int]]] = {}
        start = time.monotonic()
        for rows in _chunks(setup, indices, one.chunk_tokens):
            outputs |= dict(zip(rows, _outputs(one, setup, rows), strict=True))
        rates[one.name] = len(indices) / (time.monotonic() - start)
        texts[one.name] = [setup.tokenizer.decode(outputs[index][0]) for index in indices]
    bleu = score("translation", texts[engine.name], texts[in_torch.name]).headline
    compared = f"BLEU {bleu:.2f} against PyTorch's outputs on {len(indices)} sources"
    if bleu < LEAST_BLEU:
        raise ExportError(f"the teacher in int8 has {compared}, less than {LEAST_BLEU:g}")
    speed = f"{rates[engine.name]:.0f} outputs/s, PyTorch {rates[in_torch.name]:.0f}"
    console.print(
        f"the teacher's outputs are written by the exported teacher: {compared}; {speed}",
        highlight=False,
        soft_wrap=True,
    )
    return {"engine": engine.name, "bleu_against_torch": round(bleu, 2), "compared": len(indices)}


def _sample(setup: Setup) -> list[int]:
    """Returns the indices of at most ``COMPARED`` sources, evenly spaced."""
    count = len(setup.train.sources)
    return list(range(count)) if count <= COMPARED else [number * count // COMPARED for number in range(COMPARED)]


def _chunks(setup: Setup, indices: list[int], tokens: int) -> list[list[int]]:
    """Returns the sources that are searched together, shortest first."""
    lengths = setup.train.sources.lengths
    buckets = bucket_by_length([int(lengths[index]) for index in indices], tokens)
    return [[indices[position] for position in bucket] for bucket in reversed(buckets)]


def hypothesis_count(setup: Setup) -> int:
    """Returns how many outputs of each source the method reads: one, or all those of the beam search."""
    assert setup.recipe.teacher is not None  # the recipe's validation
    return setup.recipe.teacher.num_beams if resolve(setup.recipe.method).choice.compares else 1


def _outputs(engine: LabelEngine, setup: Setup, rows: list[int]) -> list[list[list[int]]]:
    assert setup.recipe.teacher is not None
    sources = [setup.train.sources[index].tolist() for index in rows]
    n_best = engine.outputs(sources, setup.recipe.teacher.num_beams, hypothesis_count(setup))
    return [cut_outputs(setup, outputs) for outputs in n_best]


def _key(setup: Setup) -> str:
    """Returns a digest of what the outputs depend on: data, teacher and settings, but not their paths."""
    settings = setup.recipe.model_dump_json(
        include={"data", "teacher"}, exclude={"data": {"root"}, "teacher": {"path", "label_engine"}}
    )
    digest = hashlib.sha256(settings.encode())
    if (count := hypothesis_count(setup)) > 1:
        digest.update(f"{count} outputs".encode())
    if setup.teacher is not None:
        digest.update(f"{setup.teacher.name} {setup.teacher.parameters}".encode())
    for index in range(len(setup.train.sources)):
        digest.update(setup.train.sources[index].tobytes())
    return digest.hexdigest()


def _read(path: Path, key: str) -> Labels:
    """Returns what a run folder has; a file of other data or another teacher is deleted."""
    if not path.exists():
        return Labels()
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
        return Labels()
    labels = Labels()
    for record in records:
        if "index" in record:
            labels.outputs[record["index"]] = [record["tokens"], *record.get("more", ())]
        elif "engine" in record:
            labels.engine = record
        labels.seconds = max(labels.seconds, record.get("seconds", 0.0))
    if labels.outputs and not labels.engine:  # of a version that had PyTorch alone
        labels.engine = {"engine": "torch"}
    return labels


def _bar(console: Console) -> ProgressBar:
    return ProgressBar(console=console, disable=console.quiet or not console.is_terminal)
