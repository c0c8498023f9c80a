"""Does the export compute what the model computes, and does a text's output depend on its neighbours?

Three comparisons on development sources, all of them in ``parity.json`` with every exception:

- fp32 tokens against PyTorch's greedy search. They must be identical; a difference is excused only where the model's
  two best tokens are within 1e-4 in logit (a near-tie, which the order of additions decides);
- each precision alone, in eights and in thirty-twos: the same tokens;
- the text of each precision against fp32's, and against references, by BLEU or ROUGE-L.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from compressor.batching import bucket_by_length
from compressor.bundle import (
    DECODER_STEP,
    ENCODER,
    ParitySummary,
    Quality,
    base_precision,
)
from compressor.decoding.constraints import Constraints, search_options
from compressor.decoding.search import greedy, pad_sources
from compressor.errors import ExportError
from compressor.exporters.checks.dev_set import DevSet
from compressor.exporters.graphs.modules import drops_suppressed
from compressor.generation_config import GenerationConfig
from compressor.models.base import Seq2SeqModel
from compressor.progress import Bar
from compressor.provenance import cpu
from compressor.runtime import streaming
from compressor.runtime.generator import Generator, Hypothesis
from compressor.runtime.search_options import resolve
from compressor.text.metrics import score

NEAR_TIE = 1e-4
"""Largest difference in logit that the order of floating-point additions explains."""
BATCH_SIZES = (1, 8, 32)
TIES = {"fp32": NEAR_TIE, "fp16": 2**-5, "int8": 0.05, "int4": 0.05, "mixed": 0.05}
"""Logits so close that a batch may decide between them. Where activations are rounded to 8 bits, the last bit of a sum
can move one of them by a step. In fp16, logits from 16 to 32 lie 2^-6 apart, and each of two may be one such step off.
Where it was tried, no output moved in fp16, int4 or mixed.
"""

EXCEPTIONS = 0.001
"""Share of sources whose output may move with the batch, each at a near-tie."""
_BATCH_TOKENS = 1 << 30  # batches are cut by their number of sentences


@dataclass(frozen=True)
class Difference:
    """Two outputs of one source that part at ``position``; ``gap`` is how far the tokens' logits are apart there."""

    source: int
    position: int
    tokens: tuple[int | None, int | None]
    gap: float
    batch_size: int | None = None


@dataclass(frozen=True)
class Report:
    """All that was found."""

    sources: int
    against_torch: list[Difference]
    batch: dict[str, list[Difference]]
    quality: dict[str, Quality]
    """Of every precision, unless the sources were invented."""

    def summary(self) -> ParitySummary:
        """The heads of the report."""
        return ParitySummary(
            sources=self.sources,
            fp32_identical=self.sources - len(self.against_torch),
            fp32_near_ties=len(self.against_torch),
            batch_sources=self.sources,
            batch_exceptions={name: len({item.source for item in found}) for name, found in self.batch.items()},
        )

    def to_dict(self) -> dict[str, Any]:
        """Content of ``parity.json``."""
        return {
            "near_tie": NEAR_TIE,
            "batch_sizes": BATCH_SIZES,
            "sources": self.sources,
            "fp32_against_torch": [asdict(item) for item in self.against_torch],
            "batch_independence": {name: [asdict(item) for item in found] for name, found in self.batch.items()},
            "quality": {name: item.model_dump() for name, item in self.quality.items()},
        }


def check(
    model: Seq2SeqModel, generation: GenerationConfig, generators: dict[str, Generator], dev: DevSet, bar: Bar
) -> Report:
    """Compares all precisions, fp32 among them.

    Args:
        model: What was exported.
        generation: Its generation configuration.
        generators: Precision to runtime.
        dev: Sources.
        bar: Shows the generation of each precision.

    Raises:
        ExportError: fp32 differs from PyTorch, or outputs depend on the batch, beyond what near-ties explain.
    """
    outputs = {}
    for name, generator in generators.items():
        advance = bar.start(f"proving {name}", len(BATCH_SIZES) * len(dev.ids))
        searched = by_batch_size(generator, dev.ids, advance)
        outputs[name] = {size: [one.token_ids for one in found] for size, found in searched.items()}
    fp32 = outputs["fp32"][BATCH_SIZES[-1]]
    against_torch = _against_torch(model, generation, dev.ids, fp32)
    batch = {name: _batch_differences(generators[name], dev.ids, found) for name, found in outputs.items()}
    _refuse_dependence(batch, len(dev.ids))
    texts = {name: [generators[name].tokenizer.decode(ids) for ids in found[1]] for name, found in outputs.items()}
    task = generators["fp32"].task
    measured = () if dev.invented else generators
    quality = {name: _quality(task, name, texts, dev.references) for name in measured}
    return Report(len(dev.ids), against_torch, batch, quality)


def by_batch_size(
    generator: Generator, sources: Sequence[Sequence[int]], advance: Callable[[], object], num_beams: int = 1
) -> dict[int, list[Hypothesis]]:
    """The best output of every source at each of ``BATCH_SIZES``.

    Batches are cut in the order of the sources, so that short ones stand beside long ones and are padded.
    """
    outputs: dict[int, list[Hypothesis]] = {size: [] for size in BATCH_SIZES}
    for size, found in outputs.items():
        for start in range(0, len(sources), size):
            chunk = sources[start : start + size]
            searched = generator.search_ids(chunk, batch_size=size, batch_tokens=_BATCH_TOKENS, num_beams=num_beams)
            found += [best for best, *_ in searched]
            for _ in chunk:
                advance()
    return outputs


def _against_torch(
    model: Seq2SeqModel, generation: GenerationConfig, sources: list[list[int]], found: list[list[int]]
) -> list[Difference]:
    """Differences between PyTorch's greedy search and fp32, each a near-tie. Raises ExportError at any other."""
    wanted: list[list[int]] = [[] for _ in sources]
    for rows in bucket_by_length([len(ids) for ids in sources], _BATCH_TOKENS, BATCH_SIZES[-1]):
        source, mask = pad_sources([sources[row] for row in rows], generation.pad_id)
        for row, output in zip(rows, greedy(model, generation, source, mask), strict=True):
            wanted[row] = output
    differences = []
    for row, (want, got) in enumerate(zip(wanted, found, strict=True)):
        if want != got:
            position = _first_difference(want, got)
            logits = torch_logits(model, generation, sources[row], want[:position])
            differences.append(_difference(row, position, want, got, logits))
    if wrong := [item for item in differences if not item.gap <= NEAR_TIE]:
        first = wrong[0]
        raise ExportError(
            f"the fp32 graph differs from PyTorch on {len(wrong)} of {len(sources)} dev sources: token "
            f"{first.position + 1} of source {first.source + 1} is {first.tokens[1]} instead of {first.tokens[0]}, "
            f"{first.gap:.2g} apart in logit"
        )
    return differences


def _batch_differences(
    generator: Generator, sources: list[list[int]], outputs: dict[int, list[list[int]]]
) -> list[Difference]:
    """Sources whose output in a batch is not that of the source alone."""
    differences = []
    for size in BATCH_SIZES[1:]:
        for row, (want, got) in enumerate(zip(outputs[BATCH_SIZES[0]], outputs[size], strict=True)):
            if want != got:
                position = _first_difference(want, got)
                logits = graph_logits(generator, sources[row], want[:position])
                differences.append(_difference(row, position, want, got, logits, size))
    return differences


def _refuse_dependence(batch: dict[str, list[Difference]], sources: int) -> None:
    for name, differences in batch.items():
        moved = {item.source for item in differences}
        gap = max((item.gap for item in differences), default=0.0)
        if len(moved) > max(1, EXCEPTIONS * sources) or gap > TIES[base_precision(name)]:
            raise ExportError(
                f"{name}: the outputs of {len(moved)} of {sources} dev sources depend on their batch "
                f"(up to {gap:.2g} apart in logit); at most {EXCEPTIONS:.1%} may, where logits are within "
                f"{TIES[base_precision(name)]:.2g}"
            )


def _first_difference(want: Sequence[int], got: Sequence[int]) -> int:
    pairs = enumerate(zip(want, got, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(want), len(got)))


def _difference(
    row: int, position: int, want: list[int], got: list[int], logits: Any, batch_size: int | None = None
) -> Difference:
    first, second = (tokens[position] if position < len(tokens) else None for tokens in (want, got))
    gap = float("inf") if first is None or second is None else abs(float(logits[first]) - float(logits[second]))
    return Difference(row, position, (first, second), gap, batch_size)


@torch.no_grad()
def torch_logits(model: Seq2SeqModel, generation: GenerationConfig, source: list[int], prefix: list[int]) -> Any:
    """[vocab] of the token after ``prefix``, forbidden tokens at minus infinity, by PyTorch."""
    ids, mask = pad_sources([source], generation.pad_id)
    so_far = torch.tensor([[generation.start_id, *prefix]])
    logits = model.decode(model.encode(ids, mask), so_far)[:, -1]
    constraints, options = Constraints(generation, model.config.vocab_size), search_options(generation, 1)
    return constraints.forbid(constraints.always(logits), so_far, torch.tensor(len(prefix)), options)[0].numpy()


def graph_logits(generator: Generator, source: list[int], prefix: list[int]) -> Any:
    """[vocab] of the token after ``prefix``, by the step graph, the source being alone."""
    rules, vocab_size = generator.manifest.generation, generator.manifest.vocab_size
    options = resolve(generator.manifest, {}, 1).feeds(np.array([prefix], np.int64).reshape(1, -1))
    encoder, step = generator.session(ENCODER), generator.session(DECODER_STEP)
    feeds = streaming.first_feeds(encoder, step, *generator.source_feeds([source]), options)
    logits = None
    for _ in range(len(prefix) + 1):
        (logits,) = streaming.advance(step, feeds, ["logits"])
    assert logits is not None
    columns = feeds.get("kept", np.arange(logits.shape[-1]))
    tokens = np.array(rules.allowed_ids(vocab_size) if drops_suppressed(rules, vocab_size) else range(vocab_size))
    real = columns < len(tokens)  # beyond are those that fill groups up
    full = np.full(vocab_size, -np.inf, np.float32)
    full[tokens[columns[real]]] = logits[0][real]
    return full


def _quality(task: str, name: str, texts: dict[str, list[str]], references: list[str] | None) -> Quality:
    against_fp32 = None if name == "fp32" else score(task, texts[name], texts["fp32"])
    against_references = score(task, texts[name], references) if references else None
    scores = against_references or against_fp32
    return Quality(
        metric="bleu" if task == "translation" else "rouge_l",
        against_fp32=against_fp32.headline if against_fp32 else None,
        against_references=against_references.headline if against_references else None,
        sentences=len(texts[name]),
        signature=scores.signature if scores else None,
        processor_features=tuple(cpu()["features"]),
    )
