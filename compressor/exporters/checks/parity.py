"""Parity: compares the outputs of an export with the PyTorch model, across batch sizes, and across precisions.

Three comparisons on dev sources, all recorded in ``parity.json`` with every exception:

- fp32 tokens against PyTorch's greedy search. They must be identical; a difference is accepted only where the logits of
  the two tokens are within 1e-4 (a near-tie, which the order of additions decides);
- each precision at batch size 1 against batch sizes 8 and 32: the tokens must be the same;
- the text of each precision against the text of fp32, and against references, by BLEU or ROUGE-L.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from compressor.batching import bucket_by_length
from compressor.bundle import DECODER_STEP, ENCODER, base_precision
from compressor.bundle_records import ParitySummary, Quality
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
from compressor.runtime.generator import Generator
from compressor.runtime.results import ScoredTokens
from compressor.runtime.search_options import resolve
from compressor.text.metrics import score

NEAR_TIE = 1e-4
"""Largest difference in logit that the order of floating-point additions explains."""
BATCH_SIZES = (1, 8, 32)
BATCH_TIES = {"fp32": NEAR_TIE, "fp16": 2**-5, "int8": 0.05, "int4": 0.05, "mixed": 0.05}
"""Largest difference in logit between two tokens at which a different batch size may choose the other, by precision.

Where activations are rounded to 8 bits, the last bit of a sum can change the rounded level. In fp16, logits from 16 to
32 are 2^-6 apart, and both may be off by one such step. In fp16, int4 and mixed no output changed in our measurements.
"""
MAX_EXCEPTIONS = 0.001
"""Largest share of sources whose output may change with the batch, each at a near-tie."""
_BATCH_TOKENS = 1 << 30  # no limit: the number of sentences alone ends a batch


@dataclass(frozen=True)
class Difference:
    """The first difference between two outputs of one source.

    ``tokens`` are the two tokens at ``position`` (None: the output has ended), and ``gap`` is the difference of their
    logits.
    """

    source: int
    position: int
    tokens: tuple[int | None, int | None]
    gap: float
    batch_size: int | None = None


@dataclass(frozen=True)
class ParityReport:
    """Results of all comparisons."""

    sources: int
    against_torch: list[Difference]
    batch: dict[str, list[Difference]]
    quality: dict[str, Quality]
    """By precision; empty if the sources were random tokens."""

    def summary(self) -> ParitySummary:
        """The counts that go into the manifest."""
        return ParitySummary(
            sources=self.sources,
            fp32_identical=self.sources - len(self.against_torch),
            fp32_near_ties=len(self.against_torch),
            batch_sources=self.sources,
            batch_exceptions={
                name: len({item.source for item in differences}) for name, differences in self.batch.items()
            },
        )

    def to_dict(self) -> dict[str, Any]:
        """The content of ``parity.json``."""
        return {
            "near_tie": NEAR_TIE,
            "batch_sizes": BATCH_SIZES,
            "sources": self.sources,
            "fp32_against_torch": [asdict(item) for item in self.against_torch],
            "batch_independence": {
                name: [asdict(item) for item in differences] for name, differences in self.batch.items()
            },
            "quality": {name: item.model_dump() for name, item in self.quality.items()},
        }


def check_parity(
    model: Seq2SeqModel, generation: GenerationConfig, generators: dict[str, Generator], dev: DevSet, bar: Bar
) -> ParityReport:
    """Compares fp32 with PyTorch, and every precision with fp32 and with itself at other batch sizes.

    Args:
        model: The exported model.
        generation: Its generation configuration.
        generators: Precision to its generator; ``fp32`` must be one.
        dev: The dev set.
        bar: Shows progress for each precision.

    Raises:
        ExportError: fp32 differs from PyTorch, or outputs depend on the batch, beyond near-ties.
    """
    outputs: dict[str, dict[int, list[list[int]]]] = {}
    for name, generator in generators.items():
        advance = bar.start(f"checking {name}", len(BATCH_SIZES) * len(dev.ids))
        hypotheses = by_batch_size(generator, dev.ids, advance)
        outputs[name] = {size: [best.token_ids for best in row] for size, row in hypotheses.items()}
    limits = [generators["fp32"].manifest.default_max_new_tokens(len(ids)) for ids in dev.ids]
    torch_differences = _torch_differences(model, generation, dev.ids, outputs["fp32"][BATCH_SIZES[-1]], limits)
    batch = {name: _batch_differences(generators[name], dev.ids, by_size) for name, by_size in outputs.items()}
    _refuse_batch_dependence(batch, len(dev.ids))
    texts = {
        name: [generators[name].tokenizer.decode(ids) for ids in by_size[BATCH_SIZES[0]]]
        for name, by_size in outputs.items()
    }
    task = generators["fp32"].task
    measured = () if dev.is_random else generators
    quality = {name: _quality(task, name, texts, dev.references) for name in measured}
    return ParityReport(len(dev.ids), torch_differences, batch, quality)


def by_batch_size(
    generator: Generator, sources: Sequence[Sequence[int]], advance: Callable[[], object], num_beams: int = 1
) -> dict[int, list[ScoredTokens]]:
    """Returns the best output of every source at each of ``BATCH_SIZES``.

    Batches follow the order of the sources: short sources share a batch with long ones and are padded.

    Args:
        generator: Runs the search.
        sources: Token ids of each source.
        advance: Called after each source.
        num_beams: Number of beams; 1 is greedy.
    """
    outputs: dict[int, list[ScoredTokens]] = {size: [] for size in BATCH_SIZES}
    for size, hypotheses in outputs.items():
        for start in range(0, len(sources), size):
            chunk = sources[start : start + size]
            searched = generator.search_ids(chunk, batch_size=size, batch_tokens=_BATCH_TOKENS, num_beams=num_beams)
            hypotheses += [best for best, *_ in searched]
            for _ in chunk:
                advance()
    return outputs


def _torch_differences(
    model: Seq2SeqModel,
    generation: GenerationConfig,
    sources: list[list[int]],
    outputs: list[list[int]],
    limits: Sequence[int] | None = None,
) -> list[Difference]:
    """Differences of fp32 outputs from PyTorch's greedy search, all near-ties. Raises ExportError for any other.

    Args:
        model: The model in PyTorch.
        generation: Its generation configuration.
        sources: Token ids of each source.
        outputs: The output of each source by the fp32 graph.
        limits: Maximum output length of each source; None: the configuration's.
    """
    expected: list[list[int]] = [[] for _ in sources]
    for rows in bucket_by_length([len(ids) for ids in sources], _BATCH_TOKENS, BATCH_SIZES[-1]):
        source, mask = pad_sources([sources[row] for row in rows], generation.pad_id)
        longest = [limits[row] for row in rows] if limits else None
        for row, output in zip(rows, greedy(model, generation, source, mask, longest), strict=True):
            expected[row] = output
    differences = []
    for row, (want, got) in enumerate(zip(expected, outputs, strict=True)):
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
    """Differences of the outputs at each larger batch size from those at batch size 1.

    Args:
        generator: Computes the logits at a difference.
        sources: Token ids of each source.
        outputs: Batch size to the output of each source.
    """
    differences = []
    for size in BATCH_SIZES[1:]:
        for row, (want, got) in enumerate(zip(outputs[BATCH_SIZES[0]], outputs[size], strict=True)):
            if want != got:
                position = _first_difference(want, got)
                logits = graph_logits(generator, sources[row], want[:position])
                differences.append(_difference(row, position, want, got, logits, size))
    return differences


def _refuse_batch_dependence(batch: dict[str, list[Difference]], sources: int) -> None:
    """Raises ExportError if too many outputs of a precision change with the batch, or not at a near-tie.

    Args:
        batch: Precision to its differences.
        sources: Number of sources.
    """
    for name, differences in batch.items():
        changed = {item.source for item in differences}
        gap = max((item.gap for item in differences), default=0.0)
        if len(changed) > max(1, MAX_EXCEPTIONS * sources) or gap > BATCH_TIES[base_precision(name)]:
            raise ExportError(
                f"{name}: the outputs of {len(changed)} of {sources} dev sources depend on their batch "
                f"(up to {gap:.2g} apart in logit); at most {MAX_EXCEPTIONS:.1%} may, where logits are within "
                f"{BATCH_TIES[base_precision(name)]:.2g}"
            )


def _first_difference(want: Sequence[int], got: Sequence[int]) -> int:
    """The first position at which two different outputs differ; the length of the shorter if it begins the longer."""
    pairs = enumerate(zip(want, got, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(want), len(got)))


def _difference(
    row: int, position: int, want: list[int], got: list[int], logits: Any, batch_size: int | None = None
) -> Difference:
    """The Difference of two outputs of source ``row``; ``logits`` [vocab] are those at ``position``."""
    first, second = (tokens[position] if position < len(tokens) else None for tokens in (want, got))
    gap = float("inf") if first is None or second is None else abs(float(logits[first]) - float(logits[second]))
    return Difference(row, position, (first, second), gap, batch_size)


@torch.no_grad()
def torch_logits(model: Seq2SeqModel, generation: GenerationConfig, source: list[int], prefix: list[int]) -> Any:
    """Logits [vocab] of the token after ``prefix``, by PyTorch; forbidden tokens have minus infinity."""
    ids, mask = pad_sources([source], generation.pad_id)
    so_far = torch.tensor([[generation.start_id, *prefix]])
    logits = model.decode(model.encode(ids, mask), so_far)[:, -1]
    constraints, options = Constraints(generation, model.config.vocab_size), search_options(generation, 1)
    return constraints.forbid(constraints.always(logits), so_far, torch.tensor(len(prefix)), options)[0].numpy()


def graph_logits(generator: Generator, source: list[int], prefix: list[int]) -> Any:
    """Logits [vocab] of the token after ``prefix``, by the step graph at batch size 1; absent: minus infinity."""
    rules, vocab_size = generator.manifest.generation, generator.manifest.vocab_size
    settings = resolve(generator.manifest, {}, 1).for_sources(generator.manifest, [source])
    options = settings.feeds(np.array([prefix], np.int64).reshape(1, -1))
    encoder, step = generator.session(ENCODER), generator.session(DECODER_STEP)
    feeds = streaming.first_feeds(encoder, step, *generator.source_feeds([source]), options)
    logits = None
    for _ in range(len(prefix) + 1):
        (logits,) = streaming.advance(step, feeds, ["logits"])
    assert logits is not None
    columns = feeds.get("kept_columns", np.arange(logits.shape[-1]))
    tokens = np.array(rules.allowed_ids(vocab_size) if drops_suppressed(rules, vocab_size) else range(vocab_size))
    real = columns < len(tokens)  # the others are padding to whole groups
    full = np.full(vocab_size, -np.inf, np.float32)
    full[tokens[columns[real]]] = logits[0][real]
    return full


def _quality(task: str, name: str, texts: dict[str, list[str]], references: list[str] | None) -> Quality:
    """Scores the texts of precision ``name`` against the texts of fp32 and against the references."""
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
