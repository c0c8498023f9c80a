"""Label engines: what writes the teacher's outputs, and which one a run takes.

There is the teacher in PyTorch, and the teacher exported to int8, which is faster on a processor. The exported one is
``compressor.exporters.label_engine``; whoever calls ``distill`` hands it in, as exporters come after distillation in
the order of imports.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console

from compressor.batching import bucket_by_length
from compressor.config import Recipe
from compressor.decoding.beam import NEVER
from compressor.decoding.search import Hypothesis, pad_sources
from compressor.distillation.setup import Setup
from compressor.errors import DependencyError, ExportError
from compressor.teacher_config import LabelEngineName
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

    def hypotheses(self, sources: Sequence[list[int]], num_beams: int, num_return: int = 1) -> list[list[Hypothesis]]:
        """Returns the ``num_return`` best outputs of each source, best first."""


OpenLabelEngine = Callable[[Setup, Path], LabelEngine]
"""Exports the teacher into a folder, unless it is there, and opens it; raises ExportError or DependencyError."""


class TorchEngine:
    """The teacher in PyTorch."""

    name: LabelEngineName = "torch"

    def __init__(self, teacher: Teacher, recipe: Recipe, device: torch.device) -> None:
        """``device``: where the teacher is."""
        assert recipe.teacher is not None  # there is a teacher
        self.teacher, self.device = teacher, device
        self.chunk_tokens = max(1, 4 * recipe.training.batch_tokens // recipe.teacher.num_beams)

    def hypotheses(self, sources: Sequence[list[int]], num_beams: int, num_return: int = 1) -> list[list[Hypothesis]]:
        """See LabelEngine."""
        source, mask = pad_sources(sources, self.teacher.generation.pad_id, self.device)
        with torch.no_grad():
            searched = self.teacher.generate(source, mask, num_beams, num_return)
        return [outputs[:num_return] for outputs in searched]


def torch_engine(setup: Setup) -> TorchEngine:
    """Returns the teacher in memory as an engine."""
    assert setup.teacher is not None  # the recipe's validation
    return TorchEngine(setup.teacher, setup.recipe, next(setup.student.parameters()).device)


def n_best(
    engine: LabelEngine,
    recipe: Recipe,
    eos_id: int,
    sources: Sequence[list[int]],
    count: int,
    advance: Callable[[int], object] = lambda done: None,
) -> list[list[Hypothesis]]:
    """Returns the ``count`` best outputs of each source that a student can learn from, best first; at least one.

    They are cut at ``data.max_target_tokens``, where the last token of a cut one is EOS. Beams that a search did not
    finish are left out.

    Args:
        engine: What searches.
        recipe: Has beams and limits.
        eos_id: The end of an output.
        sources: Token ids.
        count: At most the beams of the search.
        advance: Called with the number of sources that were just searched.
    """
    assert recipe.teacher is not None  # there is a teacher
    limit, outputs = recipe.data.max_target_tokens, [list[Hypothesis]() for _ in sources]
    for rows in _chunks(map(len, sources), engine.chunk_tokens):
        searched = engine.hypotheses([sources[row] for row in rows], recipe.teacher.num_beams, count)
        for row, (best, *more) in zip(rows, searched, strict=True):
            for one in (best, *(other for other in more if not other.score < NEVER / 2)):
                tokens = one.tokens if len(one.tokens) <= limit else [*one.tokens[: limit - 1], eos_id]
                outputs[row].append(Hypothesis(one.score, tokens))
        advance(len(rows))
    return outputs


def choose_engine(
    setup: Setup,
    used: dict[str, Any],
    missing: int,
    folder: Path,
    open_exported: OpenLabelEngine | None,
    console: Console,
) -> tuple[LabelEngine, dict[str, Any]]:
    """Returns the engine for the missing outputs, and its description: fields of ``LabelRecord``.

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
    in_torch = torch_engine(setup)
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


def sampled_outputs(setup: Setup, engine: LabelEngine, count: int = 1) -> list[list[Hypothesis]]:
    """Returns the ``count`` best outputs of at most ``COMPARED`` training sources, evenly spaced."""
    rows, total = setup.train.sources, len(setup.train.sources)
    indices = range(total) if total <= COMPARED else (number * total // COMPARED for number in range(COMPARED))
    return n_best(engine, setup.recipe, setup.generation.eos_id, [rows[index].tolist() for index in indices], count)


def _chunks(lengths: Iterable[int], tokens: int) -> list[list[int]]:
    """Returns the rows that are searched together, shortest first."""
    return bucket_by_length(list(lengths), tokens)[::-1]


def _compare(setup: Setup, engine: LabelEngine, in_torch: LabelEngine, console: Console) -> dict[str, Any]:
    """Returns the description of an engine with its BLEU against PyTorch. Raises ExportError if that is too low."""
    texts, rates = {}, {}
    for one in (engine, in_torch):
        start = time.monotonic()
        outputs = sampled_outputs(setup, one)
        rates[one.name] = len(outputs) / (time.monotonic() - start)
        texts[one.name] = [setup.tokenizer.decode(best.tokens) for best, *_ in outputs]
    count = len(texts[engine.name])
    bleu = score("translation", texts[engine.name], texts[in_torch.name]).headline
    compared = f"BLEU {bleu:.2f} against PyTorch's outputs on {count} sources"
    if bleu < LEAST_BLEU:
        raise ExportError(f"the teacher in int8 has {compared}, less than {LEAST_BLEU:g}")
    speed = f"{rates[engine.name]:.0f} outputs/s, PyTorch {rates[in_torch.name]:.0f}"
    console.print(
        f"the teacher's outputs are written by the exported teacher: {compared}; {speed}",
        highlight=False,
        soft_wrap=True,
    )
    return {"engine": engine.name, "bleu_against_torch": round(bleu, 2), "compared": count}
