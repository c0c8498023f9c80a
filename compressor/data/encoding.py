"""Text to token ids, with a reason for each example that is too long or too unequal. Needs no torch.

Shapes: rows = examples that remain.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from compressor.data.drop_report import DropReport
from compressor.data.examples import Example
from compressor.data_config import DataConfig
from compressor.text.tokenizer import cut


class Encoder(Protocol):
    """What is needed of a tokenizer."""

    @property
    def eos_id(self) -> int:
        """Id of the end-of-sentence token."""

    def encode_source(self, text: str) -> list[int]:
        """Ids of a source."""

    def encode_target(self, text: str) -> list[int]:
        """Ids of a target, ending with EOS."""


@dataclass
class EncodedTexts:
    """Token ids of examples, end to end.

    Attributes:
        sources: ids of all sources, int32.
        targets: ids of all targets, each ending with EOS, int32.
        source_lengths: [rows] int32.
        target_lengths: [rows] int32, 0 where there is no target.
        report: what was dropped.
    """

    sources: array[int] = field(default_factory=lambda: array("i"))
    targets: array[int] = field(default_factory=lambda: array("i"))
    source_lengths: array[int] = field(default_factory=lambda: array("i"))
    target_lengths: array[int] = field(default_factory=lambda: array("i"))
    report: DropReport = field(default_factory=DropReport)

    def append(self, source: Sequence[int], target: Sequence[int]) -> None:
        """Adds an example."""
        self.sources.extend(source)
        self.targets.extend(target)
        self.source_lengths.append(len(source))
        self.target_lengths.append(len(target))

    def extend(self, more: EncodedTexts) -> None:
        """Adds the examples of other texts, not what was dropped of them."""
        self.sources.extend(more.sources)
        self.targets.extend(more.targets)
        self.source_lengths.extend(more.source_lengths)
        self.target_lengths.extend(more.target_lengths)


def encode(
    examples: Iterable[Example], tokenizer: Encoder, data: DataConfig, first_ids: Sequence[int] = ()
) -> EncodedTexts:
    """Tokenizes, and drops (or cuts, with ``data.truncate``) what is too long or too unequal in tokens.

    Args:
        examples: cleaned examples.
        tokenizer: the student's.
        data: limits on tokens, EOS and prefixes included.
        first_ids: ids before every target, such as the forced target language; no limit counts them.
    """
    encoded = EncodedTexts()
    for example in examples:
        source = tokenizer.encode_source(example.source)
        target = [] if example.target is None else tokenizer.encode_target(example.target)
        if data.truncate:
            source = cut(source, data.max_source_tokens, tokenizer.eos_id)
            target = cut(target, data.max_target_tokens, tokenizer.eos_id)
        if reason := _too_long(len(source), len(target), data):
            encoded.report.drop(reason, example)
            continue
        if target:
            target = [*first_ids, *target]
        encoded.append(source, target)
    return encoded


def _too_long(source: int, target: int, data: DataConfig) -> str | None:
    """Returns why an example with these token counts is dropped; None if it is not."""
    if source > data.max_source_tokens:
        return f"with a source over {data.max_source_tokens} tokens"
    if target > data.max_target_tokens:
        return f"with a target over {data.max_target_tokens} tokens"
    if target and data.max_length_ratio and max(source, target) > data.max_length_ratio * min(source, target):
        return f"with a length ratio over {data.max_length_ratio:g}"
    return None
